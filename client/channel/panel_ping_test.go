package channel

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"example.com/quartet/internal/clienttest"
)

// pinged is the WebSocket of a page that answers no ping, with what its end of the connection says
// and hears, and how ping ends. What the page says is handed over as frames.
type pinged struct {
	net.Conn
	t      *testing.T
	frames chan said
	ended  chan error
}

func ping(t *testing.T, timeout time.Duration) *pinged {
	t.Helper()
	p := &pinged{t: t, frames: make(chan said), ended: make(chan error, 1)}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		s := &panelSocket{Conn: conn}
		listened := make(chan struct{})
		go func() {
			defer close(listened)
			_ = s.listen(ctx, p.frames) // The test ends it.
			_ = conn.CloseNow()
		}()
		p.ended <- s.ping(ctx, time.Millisecond, timeout)
		_ = conn.CloseNow()
		<-listened
	}))
	t.Cleanup(func() { stop(); <-done; server.Close() })
	p.Conn = clienttest.Raw(t, server.Listener.Addr().String(), "GET / HTTP/1.1\r\nHost: localhost\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyAuLg==\r\n\r\n")
	for got := ""; !strings.HasSuffix(got, "\r\n\r\n"); {
		b := make([]byte, 1)
		if _, err := io.ReadFull(p, b); err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got += string(b)
	}
	return p
}

func (p *pinged) say(bytes string) {
	p.t.Helper()
	if _, err := io.WriteString(p, bytes); err != nil {
		p.t.Fatal(err)
	}
}

// hear waits for a ping, which is the first thing that is said after the one before it.
func (p *pinged) hear() {
	p.t.Helper()
	head := make([]byte, 2)
	if _, err := io.ReadFull(p, head); err != nil || head[0] != 0x89 {
		p.t.Fatalf("%x in place of a ping, %v", head, err)
	}
	if _, err := io.CopyN(io.Discard, p, int64(head[1])); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pinged) wantGone() {
	p.t.Helper()
	select {
	case err := <-p.ended:
		if !errors.Is(err, errPageGone) {
			p.t.Error(err)
		}
	case <-clienttest.Deadline(p.t).Done():
		p.t.Error("it keeps its place")
	}
}

// frameHead is the head of a frame of size bytes, with a mask of zeros.
func frameHead(size int) string {
	return string(binary.BigEndian.AppendUint16([]byte{0x81, 0xfe}, uint16(size))) + "\x00\x00\x00\x00"
}

func TestAPageThatAnswersNoPingIsGone(t *testing.T) {
	p := ping(t, 100*time.Millisecond)
	p.wantGone()
}

// A page that is held back can be there, though no answer of it is read.
func TestAPageThatIsHeldBackIsNotGone(t *testing.T) {
	t.Parallel()
	p := ping(t, 2*time.Second)
	p.hear()
	const text = `{"text": "one"}`
	p.say(frameHead(len(text)) + text) // No frame is taken.
	p.hear()
	p.hear()
	// From here on it is not held back.
	<-p.frames
	p.wantGone()
}

// A page cannot answer before its frame is complete.
func TestAPageWhoseFrameComesSlowlyIsNotGone(t *testing.T) {
	t.Parallel()
	p := ping(t, 2*time.Second)
	p.hear()
	p.say(frameHead(60000) + strings.Repeat("a", 1<<10))
	p.hear()
	p.say(strings.Repeat("a", 1<<10))
	p.hear()
}
