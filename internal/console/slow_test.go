package console_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/coder/websocket"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/telemetry"
)

// peerTimeout is how long peers may be silent in tests of slow ones. A sixth of it has to be enough
// for a prompt one on a busy machine.
const peerTimeout = "TEST_CONSOLE_PEER_TIMEOUT=2s"

// slow is a peer that says what no library would.
type slow struct {
	net.Conn
	t      *testing.T
	answer *bufio.Reader
}

func connect(t *testing.T, address, says string) *slow {
	t.Helper()
	conn := clienttest.Raw(t, address, says)
	return &slow{conn, t, bufio.NewReader(conn)}
}

func (s *slow) say(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s, text); err != nil {
		s.t.Fatal(err)
	}
}

// trickle says one byte after the other, each of them in time, until the connection is closed.
func (s *slow) trickle() {
	go func() {
		pace := time.NewTicker(10 * time.Millisecond)
		defer pace.Stop()
		for range pace.C {
			if _, err := s.Write([]byte{'a'}); err != nil {
				return
			}
		}
	}()
}

// untilClosed returns what the console says before it closes the connection.
func (s *slow) untilClosed() string {
	s.t.Helper()
	return clienttest.UntilClosed(s.t, s.answer)
}

// frame is a short text in a frame of a WebSocket, with a mask of zeros.
func frame(text string) string {
	return "\x81" + string([]byte{0x80 | byte(len(text))}) + "\x00\x00\x00\x00" + text
}

// begun is the head of a frame of 1 GiB, and its first byte.
const begun = "\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00{"

// upgrade opens the WebSocket of a call.
func upgrade(t *testing.T, address string) *slow {
	t.Helper()
	s := connect(t, address, "GET /api/call HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: call.v1\r\n"+
		"Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyAuLg==\r\n\r\n")
	response, err := http.ReadResponse(s.answer, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(response, err)
	}
	return s
}

func load(t *testing.T, environ ...string) console.Config {
	t.Helper()
	var cfg struct {
		Console console.Config `envPrefix:"CONSOLE_"`
	}
	if err := config.Load("TEST_", environ, config.Group{Into: &cfg}); err != nil {
		t.Fatal(err)
	}
	return cfg.Console
}

// slowPanel has an API that reads, refuses, and writes until gone takes why it cannot.
func slowPanel(t *testing.T) (address string, gone chan error) {
	t.Helper()
	gone = make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /take", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		http.Error(w, fmt.Sprint(err), http.StatusRequestTimeout)
	})
	mux.HandleFunc("PUT /keep", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // The answer is the same.
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("PUT /late", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * time.Second) // longer than peerTimeout
		got, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s, %v, %v", got, err, r.Context().Err()) // The test reads it.
	})
	mux.HandleFunc("PUT /refuse", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "refused", http.StatusBadRequest)
	})
	mux.HandleFunc("GET /give", func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for piece := make([]byte, 1<<20); err == nil; {
			_, err = w.Write(piece)
		}
		gone <- err
	})
	address = clienttest.ServeConsole(t, console.Options{
		Config: load(t, peerTimeout), Product: "test", Telemetry: telemetry.Discard(), Peers: console.NewPeers(),
		Panels: []console.Panel{{Name: "slow", Title: "Slow", Page: fstest.MapFS{}, API: mux}},
	})
	return address, gone
}

func TestSlowRequestsLoseTheirConnection(t *testing.T) {
	address, _ := slowPanel(t)
	for name, test := range map[string]struct{ says, answer string }{
		"headers byte by byte": {"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", ""},
		"a body byte by byte": {
			"POST /api/ticket HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", " 400 ",
		},
		"a body for a panel byte by byte": {
			"PUT /panels/slow/api/take HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
			"too slowly",
		},
		"a body that is refused": {
			"PUT /panels/slow/api/refuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
			"refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := connect(t, address, test.says)
			s.trickle()
			if got := s.untilClosed(); !strings.Contains(got, test.answer) {
				t.Errorf("got %q", got)
			}
		})
	}
	t.Run("a body of which nothing comes", func(t *testing.T) {
		s := connect(t, address,
			"PUT /panels/slow/api/refuse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
		if got := s.untilClosed(); !strings.Contains(got, "refused") {
			t.Errorf("got %q", got)
		}
	})
}

// TestARequestOfAPanelThatTakesLongIsAnswered has one take longer than a peer may be silent, with
// an answer that has no body.
func TestARequestOfAPanelThatTakesLongIsAnswered(t *testing.T) {
	address, _ := slowPanel(t)
	const pieces, piece = 300, 100
	s := connect(t, address, fmt.Sprintf("PUT /panels/slow/api/keep HTTP/1.1\r\nHost: localhost\r\n"+
		"Connection: close\r\nContent-Length: %d\r\n\r\n", pieces*piece))
	pace := time.NewTicker(3 * time.Second / pieces)
	defer pace.Stop()
	for range pieces {
		<-pace.C
		s.say(strings.Repeat("a", piece))
	}
	if got := s.untilClosed(); !strings.Contains(got, " 204 ") {
		t.Errorf("got %q", got)
	}
}

// TestARequestThatAwaitsContinueIsAnswered has an API that reads the request only after it has
// waited for longer than a peer may be silent, as one does whose server is slow.
func TestARequestThatAwaitsContinueIsAnswered(t *testing.T) {
	address, _ := slowPanel(t)
	s := connect(t, address, "PUT /panels/slow/api/late HTTP/1.1\r\nHost: localhost\r\n"+
		"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	if line, err := s.answer.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") {
		t.Fatalf("%q, %v", line, err)
	}
	s.say("hello")
	if got := s.untilClosed(); !strings.Contains(got, "hello, <nil>, <nil>") {
		t.Errorf("got %q", got)
	}
}

func TestAReaderOfAPanelThatStopsEndsItsAnswer(t *testing.T) {
	address, gone := slowPanel(t)
	connect(t, address, "GET /panels/slow/api/give HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err := <-gone; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// TestTheKernelTakesLittleOfAnAnswer has a reader that takes much at once, for which the kernel
// would make its buffer larger, and then nothing. What is in the buffer counts as taken, so that
// with much in it a slow reader would seem to have stopped, or one that has stopped to read.
func TestTheKernelTakesLittleOfAnAnswer(t *testing.T) {
	var written atomic.Int64
	gone := make(chan error, 1)
	address := clienttest.ServeConsole(t, console.Options{
		Config: load(t, peerTimeout), Product: "test", Telemetry: telemetry.Discard(), Peers: console.NewPeers(),
		Panels: []console.Panel{{Name: "slow", Title: "Slow", Page: fstest.MapFS{}, API: http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) {
				var err error
				for piece := make([]byte, 1<<10); err == nil; {
					var n int
					n, err = w.Write(piece)
					written.Add(int64(n))
				}
				gone <- err
			})}},
	})
	conn := clienttest.Raw(t, address, "GET /panels/slow/api/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err := conn.(*net.TCPConn).SetReadBuffer(256 << 10); err != nil {
		t.Fatal(err)
	}
	const taken = 8 << 20
	if _, err := io.CopyN(io.Discard, conn, taken); err != nil {
		t.Fatal(err)
	}
	if err := <-gone; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if left := written.Load() - taken; left > 2<<20 {
		t.Errorf("%d KiB were written and not taken", left>>10)
	}
}

// TestASlowReaderLearnsAtOnceThatItsAnswerIsCut has readers that have not read their answers when
// the console stops. In a cluster they would wait for the rest, which never comes: the network of a
// pod ends with its programs.
func TestASlowReaderLearnsAtOnceThatItsAnswerIsCut(t *testing.T) {
	for name, pieces := range map[string]int{
		"the API has time to see it": 1,
		"the API waits to write":     1000, // more than the kernel takes
	} {
		t.Run(name, func(t *testing.T) {
			c, err := console.New(console.Options{
				Config: load(t), Product: "test", Telemetry: telemetry.Discard(), Peers: console.NewPeers(),
				Panels: []console.Panel{{Name: "slow", Title: "Slow", Page: fstest.MapFS{}, API: pours(pieces)}},
			})
			if err != nil {
				t.Fatal(err)
			}
			lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- c.Serve(ctx, lis) }()
			s := connect(t, lis.Addr().String(),
				"GET /panels/slow/api/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if _, err := s.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			late, cancel := context.WithCancel(t.Context())
			cancel()
			c.Stop(late)
			if pieces > 1 {
				stop()
			}
			if _, err := io.Copy(io.Discard, s.Conn); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the answer ends with %v", err)
			}
			stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// pours is an API that writes pieces of 100 KiB, and then has more to say until its request ends.
func pours(pieces int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range pieces {
			if _, err := w.Write(make([]byte, 100<<10)); err != nil {
				return
			}
		}
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// TestAFrameThatComesSlowlyIsTaken sends one for longer than a page may be silent, which cannot
// answer pings meanwhile.
func TestAFrameThatComesSlowlyIsTaken(t *testing.T) {
	s := start(t, peerTimeout)
	p := upgrade(t, s.address)
	p.say(frame(`{"type": "start", "method": "` + service + `FullDuplexCall"}`))
	message := `{"type": "message", "message": {"responseParameters": [{"size": 1}], ` +
		`"payload": {"body": "` + strings.Repeat("A", 60000) + `"}}}`
	head := binary.BigEndian.AppendUint16([]byte("\x81\xfe"), uint16(len(message)))
	text := string(head) + "\x00\x00\x00\x00" + message
	const pieces = 500
	pace := time.NewTicker(6 * time.Second / pieces)
	defer pace.Stop()
	for i := range pieces {
		if _, err := io.WriteString(p, text[len(text)*i/pieces:len(text)*(i+1)/pieces]); err != nil {
			t.Fatalf("%v at %d after %q", err, i, p.untilClosed())
		}
		<-pace.C
	}
	for got := ""; !strings.Contains(got, `"type":"message"`); {
		piece := make([]byte, 1024)
		n, err := p.answer.Read(piece)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got += string(piece[:n])
	}
}

// TestSlowPagesGiveTheirPlaceBack has pages take the only place for a call, and keep their
// connection.
func TestSlowPagesGiveTheirPlaceBack(t *testing.T) {
	start := func(t *testing.T) *stage { return start(t, peerTimeout, "TEST_CONSOLE_MAX_CALLS=1") }
	free := func(t *testing.T, s *stage) {
		t.Helper()
		eventually(t, "another call gets the place", func() bool {
			p, _, err := s.dial(t, nil)
			if err != nil {
				return false // too many connections at present
			}
			_ = p.Write(p.ctx, websocket.MessageText,
				[]byte(`{"type": "start", "method": "`+service+`FullDuplexCall"}`))
			e, err := p.read()
			if err == nil && e.Type == "started" {
				_ = p.CloseNow()
				return true
			}
			// The next one comes when the console has closed this one.
			for err == nil {
				_, err = p.read()
			}
			return false
		})
	}
	// The method is short enough for a frame with a length of seven bits.
	begin := func(method string) string {
		return frame(`{"type": "start", "method": "` + service + method + `"}`)
	}
	t.Run("no first frame", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		upgrade(t, s.address)
		free(t, s)
	})
	t.Run("a first frame byte by byte", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		p := upgrade(t, s.address)
		p.say("\x81\xfe\x10\x00\x00\x00\x00\x00")
		p.trickle()
		free(t, s)
	})
	t.Run("a frame byte by byte", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		p := upgrade(t, s.address)
		p.say(begin("FullDuplexCall") + "\x81\xfe\x80\x00\x00\x00\x00\x00")
		p.trickle()
		free(t, s)
	})
	t.Run("nothing is taken, and more is sent", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		p := upgrade(t, s.address)
		p.say(begin("FullDuplexCall"))
		message := `{"type": "message", "message": {"payload": {"body": "` +
			strings.Repeat("A", 32<<10) + `"}}}`
		head := binary.BigEndian.AppendUint16([]byte("\x81\xfe"), uint16(len(message)))
		go func() {
			for {
				if _, err := io.WriteString(p, string(head)+"\x00\x00\x00\x00"+message); err != nil {
					return // The console has closed the connection.
				}
			}
		}()
		free(t, s)
	})
	t.Run("nothing is taken", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		p := upgrade(t, s.address)
		p.say(begin("StreamingOutputCall"))
		p.say(frame(`{"type": "message", "message": {"responseParameters": ` +
			`[{"size": 65536, "intervalUs": 4096}]}}`))
		eventually(t, "the server sends", func() bool { return s.sent.Load() > 0 })
		free(t, s)
	})
	// The console has told the status, and waits for the page to close its side.
	for name, says := range map[string]string{
		"nothing after the status":              "",
		"a frame that is not closed":            frame("{}") + begun,
		"a close that is none":                  "\x88\x80",
		"a frame without an end after a status": begun,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := upgrade(t, s.address)
			p.say(begin("EmptyCall"))
			p.say(frame(`{"type": "cancel"}`))
			for text := ""; !strings.Contains(text, `"status"`); {
				piece := make([]byte, 1024)
				n, err := p.answer.Read(piece)
				if err != nil {
					t.Fatal(err)
				}
				text += string(piece[:n])
			}
			p.say(says)
			free(t, s)
			p.untilClosed()
		})
	}
	t.Run("a frame that is too large", func(t *testing.T) {
		t.Parallel()
		s := start(t)
		p := upgrade(t, s.address)
		p.say(begin("FullDuplexCall"))
		// The console may close the connection before it has all.
		_, _ = io.WriteString(p, begun+strings.Repeat("x", 1<<20))
		free(t, s)
		if got := p.untilClosed(); !strings.Contains(got, "\x88") {
			t.Errorf("got %q, without a frame that closes", got)
		}
	})
}
