package channel

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/telemetry"
)

//go:embed panel
var panelFiles embed.FS

// newPanel is the page of this service in the console, on which several participants talk, and the
// WebSocket behind it, which any program may use: join?channel=…&participant=…, with after=0 for
// all that is kept, or with the position of the last message seen. Each is one Conversation.
//
// The page sends {"id", "text"}; it gets a receipt with the same id.
func newPanel(s cli.Connection) (console.Panel, error) {
	page, err := fs.Sub(panelFiles, "panel")
	if err != nil {
		return console.Panel{}, err
	}
	p := &panel{client: connect(s)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /join", p.join)
	return console.Panel{Title: "Conversations", Page: page, API: mux}, nil
}

// panel answers the requests of the page.
type panel struct{ client *Client }

// panelProtocol is the WebSocket subprotocol.
const panelProtocol = "channel.v1"

const (
	// maxFrame is the size of a frame with the largest message, in which each byte may be escaped.
	maxFrame = 6*maxBody + 1024
	// A page that takes nothing, or does not answer a ping, is taken for gone after so long.
	pageTimeout  = 30 * time.Second
	pingInterval = 15 * time.Second
	// closeTimeout is how long a page may take for the last event, and to close its side.
	closeTimeout = 5 * time.Second
	// maxAttempts is how many attempts are remembered that the page has not been told of.
	maxAttempts = 16
)

// panelEvent is what the page is told.
type panelEvent struct {
	// Type is joined, attempt, message, receipt, refused or end.
	Type string `json:"type"`
	// Peer is the server to which a stream was opened, with attempt.
	Peer string `json:"peer,omitempty"`
	// Sequence is that of a message, or of the one that a receipt is for.
	Sequence uint64 `json:"sequence,omitempty"`
	// Previous is the sequence of the message before it.
	Previous uint64 `json:"previous_sequence,omitempty"`
	// Participant said Text, or what has Bytes and is no text.
	Participant string `json:"participant,omitempty"`
	Text        string `json:"text,omitempty"`
	Bytes       int    `json:"bytes,omitempty"`
	Time        string `json:"create_time,omitempty"`
	// Position is where to join again.
	Position json.RawMessage `json:"position,omitempty"`
	// ID is that of the page's own message, with receipt and refused.
	ID        string `json:"id,omitempty"`
	Duplicate bool   `json:"duplicate,omitempty"`
	// Reason is why a message was refused, or why it is over. First is then where to begin anew.
	Code   string `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	First  uint64 `json:"first,omitempty,string"`
}

// said is a frame of the page: a message, and an id by which the page knows its receipt.
type said struct{ ID, Text string }

// panelSocket is the WebSocket of one participant's page. Frames are written by several goroutines,
// one at a time.
type panelSocket struct {
	*websocket.Conn
	write sync.Mutex
	// held says that the page is held back, so that its answers to pings are not read.
	held atomic.Bool
	// heard counts what has come of frames of the page.
	heard atomic.Int64
}

// join answers a WebSocket with a conversation, until either ends. The last event says why. helpers
// are the goroutines of this request, which have ended when it returns.
func (p *panel) join(w http.ResponseWriter, r *http.Request) {
	options, err := joinOptions(r.URL.Query())
	if err != nil {
		http.Error(w, telemetry.Text(err.Error()), http.StatusBadRequest)
		return
	}
	// The console has checked the origin.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, Subprotocols: []string{panelProtocol},
	})
	if err != nil {
		return // The answer says why.
	}
	// A page may send anything: a longer frame ends the connection, and is not read into memory.
	conn.SetReadLimit(maxFrame)
	socket := &panelSocket{Conn: conn}
	ctx, cancel := context.WithCancelCause(r.Context())
	var helpers sync.WaitGroup
	defer helpers.Wait()
	closed := make(chan struct{})
	defer func() {
		_ = conn.CloseNow() // It has been closed, or its peer is gone.
		close(closed)
	}()
	defer cancel(nil)
	// A page that takes nothing does not keep a conversation that is over.
	helpers.Go(func() {
		<-ctx.Done()
		select {
		case <-closed:
		case <-time.After(closeTimeout):
			_ = conn.CloseNow()
		}
	})
	// Without room, so that a page that talks faster than its messages are kept is held back by its
	// connection.
	frames := make(chan said)
	helpers.Go(func() { cancel(socket.listen(ctx, frames)) })
	helpers.Go(func() { cancel(socket.ping(ctx, pingInterval, pageTimeout)) })
	err = p.talk(ctx, socket, options, frames, &helpers)
	// What a helper has noticed, such as a page that is gone, is why the conversation has ended.
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(err)
	// The page joins again where the code says that later may go better.
	_ = socket.emit(context.WithoutCancel(ctx), panelEvent{ // The page may be gone.
		Type: "end", Code: console.Code(err).String(),
		Reason: telemetry.Text(status.Convert(err).Message()), First: First(err),
	})
	console.CloseSocket(w, conn, websocket.StatusNormalClosure, closeTimeout)
}

// joinOptions are what a request asks for, and an error for what is not a number or a position. The
// server checks the rest.
func joinOptions(query url.Values) (JoinOptions, error) {
	options := JoinOptions{
		Channel: query.Get("channel"), Participant: query.Get("participant"),
	}
	if options.Channel == "" || options.Participant == "" {
		return options, errors.New("channel and participant are needed")
	}
	var err error
	for name, into := range map[string]func(uint64){
		"after": func(n uint64) { options.After = &n },
		"from":  func(n uint64) { options.From = n },
	} {
		if text := query.Get(name); text != "" && err == nil {
			var n uint64
			n, err = strconv.ParseUint(text, 10, 64)
			into(n)
		}
	}
	// It comes from the page, which has it from an earlier event.
	if text := query.Get("position"); text != "" && err == nil {
		options.Position = &quartetv1.Position{}
		err = protojson.Unmarshal([]byte(text), options.Position)
	}
	return options, err
}

// talk joins and passes messages both ways until the conversation is over. The page is told of each
// server to which a stream is opened, so that a person sees it change.
func (p *panel) talk(
	ctx context.Context,
	socket *panelSocket,
	options JoinOptions,
	frames <-chan said,
	helpers *sync.WaitGroup,
) error {
	// The function of WatchPeers must not block, and so not wait for the page.
	attempts := make(chan string, maxAttempts)
	watched := console.WatchPeers(ctx, func(address string) {
		select {
		case attempts <- address:
		default: // The page takes nothing at present.
		}
	})
	helpers.Go(func() {
		for {
			select {
			case peer := <-attempts:
				_ = socket.emit(ctx, panelEvent{Type: "attempt", Peer: peer}) // listen ends it.
			case <-ctx.Done():
				return
			}
		}
	})
	conversation, err := p.client.Join(watched, options)
	if err != nil {
		return err
	}
	defer conversation.Close()
	joined := panelEvent{Type: "joined", Position: encode(conversation.Position())}
	if err := socket.emit(ctx, joined); err != nil {
		return err
	}
	helpers.Go(func() { say(ctx, socket, conversation, frames) })
	for {
		message, err := conversation.Receive(ctx)
		if err != nil {
			return err
		}
		e := panelEvent{
			Type: "message", Sequence: message.GetSequence(), Previous: message.GetPreviousSequence(),
			Participant: message.GetParticipant(), Bytes: len(message.GetBody()),
			Time:     message.GetCreateTime().AsTime().Format(time.RFC3339Nano),
			Position: encode(conversation.Position()),
		}
		// JSON has no other text. Of the rest the page gets the number of bytes.
		if utf8.Valid(message.GetBody()) {
			e.Text = string(message.GetBody())
		}
		if err := socket.emit(ctx, e); err != nil {
			return err
		}
	}
}

// encode is a position as JSON, which a page gives back as it is when it joins again.
func encode(position *quartetv1.Position) json.RawMessage {
	if position == nil {
		return nil
	}
	text, err := protojson.Marshal(position)
	if err != nil {
		return nil // It is then joined by what comes now.
	}
	return text
}

// say sends what the page says, one message after the other: while one waits for its receipt, the
// page is held back.
func say(ctx context.Context, socket *panelSocket, to *Conversation, frames <-chan said) {
	for {
		select {
		case f := <-frames:
			if len(f.Text) > maxBody {
				reason := "a message has at most " + cli.Size(maxBody)
				_ = socket.emit(ctx, panelEvent{Type: "refused", ID: f.ID, Reason: reason})
				continue
			}
			receipt, err := to.Send(ctx, []byte(f.Text))
			if err != nil {
				return // Receive has the same error.
			}
			_ = socket.emit(ctx, panelEvent{ // If the page is gone, listen ends it.
				Type: "receipt", ID: f.ID, Sequence: receipt.GetSequence(), Duplicate: receipt.GetDuplicate(),
			})
		case <-ctx.Done():
			return
		}
	}
}

// errPageGone ends the conversation of a page that is not there any more.
var errPageGone = status.Error(codes.Canceled, "the page is gone")

// listen hands over what the page says, until it is gone, and returns why. It waits for each frame
// to be taken, which holds the page back.
func (s *panelSocket) listen(ctx context.Context, frames chan<- said) error {
	for {
		_, pieces, err := s.Reader(context.WithoutCancel(ctx))
		var text []byte
		if err == nil {
			text, err = io.ReadAll(hearing{pieces, &s.heard})
		}
		if err != nil {
			return errPageGone
		}
		var f said
		if err := json.Unmarshal(text, &f); err != nil || f.Text == "" || len(f.ID) > 64 {
			return status.Error(codes.InvalidArgument, `a frame is not {"id": "…", "text": "…"}`)
		}
		s.held.Store(true)
		select {
		case frames <- f:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s.heard.Add(1) // An answer that came while the page was held back is read only now.
		s.held.Store(false)
	}
}

// hearing is a frame that counts what comes of it.
type hearing struct {
	io.Reader
	heard *atomic.Int64
}

// Read implements io.Reader.
func (h hearing) Read(into []byte) (int, error) {
	// The library fills all of what it is given before it returns.
	n, err := h.Reader.Read(into[:min(len(into), 1<<10)])
	h.heard.Add(int64(n))
	return n, err
}

// ping notices a page whose computer or network has gone away without closing the connection: it
// asks in intervals, and returns when the page has not answered within timeout.
func (s *panelSocket) ping(ctx context.Context, interval, timeout time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// Not with ctx, see emit.
		pinging, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		heard := s.heard.Load()
		err := s.Ping(pinging)
		unanswered := pinging.Err() != nil
		cancel()
		switch {
		case err == nil:
		case !errors.Is(err, context.DeadlineExceeded):
			return errPageGone
		// The library waits 5 s for an event that is being written, which emit bounds.
		case !unanswered:
		// While the page is held back its answer is not read, but a connection that is gone fails
		// already when it is written to. A page answers between two frames only, which it may send
		// slowly.
		case !s.held.Load() && s.heard.Load() == heard:
			return errPageGone
		}
	}
}

// emit writes an event to the page, and fails if the page does not take it within pageTimeout.
func (s *panelSocket) emit(ctx context.Context, e panelEvent) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	s.write.Lock()
	defer s.write.Unlock()
	if ctx.Err() != nil {
		return errPageGone // Nothing comes after the last event.
	}
	// Not with ctx: a write whose context ends closes the connection, and the page would not learn why
	// the conversation has ended.
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), pageTimeout)
	defer cancel()
	if s.Write(writing, websocket.MessageText, text) != nil {
		return errPageGone
	}
	return nil
}
