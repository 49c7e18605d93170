package web_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/clienttest"
)

// raw is a connection to the web port on which a test says what no library would.
func raw(t *testing.T, s *apptest.Server, says string) net.Conn {
	t.Helper()
	return clienttest.Raw(t, s.Web, says)
}

// request is the head of an HTTP/1.1 request.
func request(method, contentType string, length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: test\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", method, contentType, length)
}

// TestSlowCallersLoseTheirConnection has clients that send a part and wait: of the headers, of a
// request, of one that the server has refused already, of the handshake of HTTP/2.
func TestSlowCallersLoseTheirConnection(t *testing.T) {
	s := start(t, &service{}, "TEST_RPC_CONNECTION_TIMEOUT=200ms",
		"TEST_RPC_FIRST_MESSAGE_TIMEOUT=200ms")
	for name, test := range map[string]struct{ says, answer string }{
		"half the headers": {"POST " + unary + " HTTP/1.1\r\nHost: te", ""},
		"half a request": {request(unary, "application/json", 10) + "{",
			"deadline_exceeded"},
		"no request": {request(unary, "application/json", 10), "deadline_exceeded"},
		"half a message of a stream": {request(download, "application/connect+json", 1000) +
			"\x00\x00\x00\x00\x09{", "deadline_exceeded"},
		"no first message of a stream": {request(upload, "application/connect+json", 1000),
			"deadline_exceeded"},
		"a chunk that does not end": {"POST " + unary +
			" HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{", "deadline_exceeded"},
		"no body of a request for no path": {
			"OPTIONS * HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n", "403 Forbidden"},
		"refused and not complete": {request("/no.Such/Method", "application/json", 1000) + "{",
			"unimplemented"},
		"too large and not complete": {request(unary, "application/json", 1<<20) + "{",
			"resource_exhausted"},
		"another origin": {strings.Replace(request(unary, "application/json", 1000), "Host: test",
			"Host: test\r\nOrigin: http://evil", 1) + "{", "may not call"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			if got := clienttest.UntilClosed(t, raw(t, s, test.says)); !strings.Contains(got, test.answer) {
				t.Errorf("got %q", got)
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestAByteAtATimeIsNotInTime has clients that are never silent, and never done.
func TestAByteAtATimeIsNotInTime(t *testing.T) {
	s := start(t, &service{}, "TEST_RPC_CONNECTION_TIMEOUT=200ms",
		"TEST_RPC_FIRST_MESSAGE_TIMEOUT=200ms")
	for name, says := range map[string]string{
		"headers":                   "POST " + unary + " HTTP/1.1\r\nHost: test\r\nX-A: ",
		"a request":                 request(unary, "application/json", 10_000) + "{",
		"a request that is refused": request("/no.Such/Method", "application/json", 10_000),
		"a message larger than the method takes": request(download, "application/connect+json", 10_000) +
			"\x00\x00\x00\x20\x00{",
		"a message of a stream": request(upload, "application/connect+json", 10_000) +
			"\x00\x00\x00\x20\x00{",
	} {
		t.Run(name, func(t *testing.T) {
			conn := raw(t, s, says)
			go func() {
				pace := time.NewTicker(10 * time.Millisecond)
				defer pace.Stop()
				for range pace.C {
					if _, err := conn.Write([]byte{' '}); err != nil {
						return
					}
				}
			}()
			began := time.Now()
			clienttest.UntilClosed(t, conn)
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestReadersThatStop have their streams end, also when the handler has long returned, and nothing
// is left of them.
func TestReadersThatStop(t *testing.T) {
	before := runtime.NumGoroutine()
	s := start(t, &service{}, "TEST_RPC_SEND_TIMEOUT=300ms")
	many := make([]string, 100)
	for i := range many {
		many[i] = `{"size": 500000}`
	}
	message := `{"responseParameters": [` + strings.Join(many, ",") + `]}`
	enveloped := string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))) + message
	unread := request(download, "application/connect+json", len(enveloped)) + enveloped
	t.Run("server stream, HTTP 1.1", func(t *testing.T) {
		raw(t, s, unread)
		eventually(t, "the stream is ended by the server",
			func() bool { return handled(t, s, download, "DeadlineExceeded") == 1 })
	})
	t.Run("unary, HTTP 1.1", func(t *testing.T) {
		large := `{"responseSize": 30000000}`
		conn := raw(t, s, request(unary, "application/json", len(large))+large)
		eventually(t, "the call is answered", func() bool { return handled(t, s, unary, "OK") == 1 })
		eventually(t, "its goroutines end",
			func() bool { return !strings.Contains(stacks(), "timedWriter") })
		_ = conn
	})
	t.Run("server stream, h2c", func(t *testing.T) {
		client := h2(t, s)
		stream := client.call(download, "application/connect+json")
		client.must(client.WriteData(stream, true, []byte(enveloped)))
		eventually(t, "the stream is ended by the server",
			func() bool { return handled(t, s, download, "DeadlineExceeded") == 2 })
		eventually(t, "its goroutines end",
			func() bool { return !strings.Contains(stacks(), "timedWriter") })
	})
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	_ = s.Conn.Close()
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+2 })
}

func stacks() string {
	buffer := make([]byte, 1<<20)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// frames is a client of HTTP/2 that sends what no library would.
type frames struct {
	*http2.Framer
	t      *testing.T
	next   uint32
	fields strings.Builder
	hpack  *hpack.Encoder
}

func h2(t *testing.T, s *apptest.Server) *frames {
	t.Helper()
	conn := raw(t, s, http2.ClientPreface)
	f := &frames{Framer: http2.NewFramer(conn, bufio.NewReader(conn)), t: t, next: 1}
	f.hpack = hpack.NewEncoder(&f.fields)
	f.must(f.WriteSettings())
	return f
}

func (f *frames) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *frames) call(path, contentType string) (stream uint32) {
	f.t.Helper()
	f.fields.Reset()
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path},
		{":authority", "test"}, {"content-type", contentType}} {
		f.must(f.hpack.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
	}
	stream = f.next
	f.next += 2
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream,
		BlockFragment: []byte(f.fields.String()), EndHeaders: true}))
	return stream
}

// ping waits until the server has taken all that was sent before.
func (f *frames) ping() {
	f.t.Helper()
	f.must(f.WritePing(false, [8]byte{}))
	for {
		frame, err := f.ReadFrame()
		f.must(err)
		if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() {
			return
		}
	}
}

// TestAHandlerThatDoesNotReadHoldsItsClientBack sends far more than the window of a stream to
// handlers that wait.
func TestAHandlerThatDoesNotReadHoldsItsClientBack(t *testing.T) {
	for _, p := range protocols {
		if strings.Contains(p.name, "JSON") {
			continue // It is the same way, and takes long to encode.
		}
		t.Run(p.name, func(t *testing.T) {
			held := &service{entered: make(chan struct{}, 1), release: make(chan struct{})}
			s := start(t, held)
			stream := clientOf[grpc_testing.StreamingInputCallRequest,
				grpc_testing.StreamingInputCallResponse](t, s, p, upload).CallClientStream(apptest.Deadline(t))
			sent, done := make(chan int, 1000), make(chan error, 1)
			const messages = 40
			go func() {
				for i := range messages {
					if err := stream.Send(&grpc_testing.StreamingInputCallRequest{Payload: payload(500_000)}); err != nil {
						done <- err
						return
					}
					sent <- i
				}
				close(done)
			}()
			<-held.entered
			quiet := time.NewTimer(300 * time.Millisecond)
			count := 0 // how many messages are sent before none is for a while
			for waiting := true; waiting; {
				select {
				case <-sent:
					count++
					quiet.Reset(300 * time.Millisecond)
				case <-quiet.C:
					waiting = false
				}
			}
			if count > 20 { // The buffers of the kernel take some megabytes.
				t.Errorf("%d messages of 500 kB were taken", count)
			}
			close(held.release)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			response, err := stream.CloseAndReceive()
			if err != nil || response.Msg.GetAggregatedPayloadSize() != messages*500_000 {
				t.Errorf("got %v: %v", response, err)
			}
		})
	}
}

// TestSmallPiecesTakeNoMoreMemory has a message arrive byte by byte, for each of which grpc-go
// would keep a buffer of 16 KiB.
func TestSmallPiecesTakeNoMoreMemory(t *testing.T) {
	s := start(t, &service{})
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	client := h2(t, s)
	const size = 6000
	stream := client.call(upload, "application/connect+proto")
	client.must(client.WriteData(stream, false, binary.BigEndian.AppendUint32([]byte{0}, size+1)))
	for range size {
		client.must(client.WriteData(stream, false, []byte{0}))
		client.ping() // The server has read the byte, or is about to.
	}
	runtime.GC()
	runtime.ReadMemStats(&during)
	// It would be 90 MiB.
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	client.must(client.WriteRSTStream(stream, http2.ErrCodeCancel))
	eventually(t, "the call ends", func() bool { return handled(t, s, upload, "Canceled") == 1 })
}

// TestCallersHaveTheirShares counts calls of the web port by the address that they come from,
// together with those of the main port.
func TestCallersHaveTheirShares(t *testing.T) {
	held := &service{entered: make(chan struct{}, 10), release: make(chan struct{})}
	s := start(t, held, "TEST_RPC_MAX_STREAMS=4", "TEST_RPC_MAX_STREAMS_PER_CALLER=1")
	open := func(from string) error {
		client := connect.NewClient[grpc_testing.StreamingOutputCallRequest,
			grpc_testing.StreamingOutputCallResponse](over(t, false, from), "http://"+s.Web+download)
		stream, err := client.CallServerStream(apptest.Deadline(t), connect.NewRequest(sizes(1, 1)))
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = stream.Close() })
		stream.Receive()
		return stream.Err()
	}
	if err := open("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	<-held.entered
	wantError(t, open("127.0.0.1"), connect.CodeResourceExhausted, "OVERLOADED")
	if err := open("127.0.0.2"); err != nil {
		t.Errorf("another caller: %v", err)
	}
	stream, err := grpc_testing.NewTestServiceClient(s.Conn).StreamingOutputCall(apptest.Deadline(t),
		sizes(1))
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	apptest.WantStatus(t, err, 8, "OVERLOADED")
	close(held.release)
}

// TestConnectionsAreBounded closes connections beyond the limits at once, and those that are old
// after their call.
func TestConnectionsAreBounded(t *testing.T) {
	s := start(t, &service{}, "TEST_RPC_MAX_CONNECTIONS=4", "TEST_RPC_MAX_CONNECTIONS_PER_CALLER=2")
	open := []net.Conn{raw(t, s, "POST"), raw(t, s, "POST")}
	refused, err := net.Dial("tcp", s.Web)
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	_ = refused.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := refused.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the third connection: %v", err)
	}
	_ = open

	old := start(t, &service{}, "TEST_RPC_MAX_CONNECTION_AGE=1ns")
	for _, h2c := range []bool{false, true} {
		client := over(t, h2c, local)
		for range 3 {
			response, _ := post(t, client, old, unary, "application/json", strings.NewReader("{}"))
			if response.StatusCode != http.StatusOK {
				t.Errorf("got %d", response.StatusCode)
			}
			if !h2c && !response.Close {
				t.Error("an old connection is kept")
			}
		}
	}
}
