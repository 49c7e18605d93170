package console_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/porttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server whose service has methods of all modes. It is of a contract that this project
// does not have.
type fake struct {
	grpc_testing.UnimplementedTestServiceServer
	cut     atomic.Int32 // how many streams still break after their first message
	ended   chan error   // takes how FullDuplexCall saw its client end
	sent    atomic.Int64 // replies of StreamingOutputCall
	started atomic.Int32 // calls of EmptyCall
}

func (f *fake) UnaryCall(
	ctx context.Context,
	r *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-seen", strings.Join(md.Get("x-name"), ",")))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "bye", "x-raw-bin", "\x00\x01"))
	if s := r.GetResponseStatus(); s.GetCode() != 0 {
		with, err := status.New(codes.Code(s.GetCode()), s.GetMessage()).WithDetails(
			&errdetails.ErrorInfo{
				Domain: "test",
				Reason: "BECAUSE",
			},
			&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
		)
		if err != nil {
			return nil, err
		}
		return nil, with.Err()
	}
	return &grpc_testing.SimpleResponse{Username: "x", Payload: r.GetPayload()}, nil
}

func (f *fake) EmptyCall(ctx context.Context, _ *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	f.started.Add(1)
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

func (f *fake) StreamingOutputCall(
	r *grpc_testing.StreamingOutputCallRequest,
	s grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse],
) error {
	for _, p := range r.GetResponseParameters() {
		for range max(1, p.GetIntervalUs()) {
			payload := &grpc_testing.Payload{Body: make([]byte, p.GetSize())}
			if err := s.Send(&grpc_testing.StreamingOutputCallResponse{Payload: payload}); err != nil {
				return err
			}
			f.sent.Add(1)
			if f.cut.Add(-1) >= 0 {
				return status.Error(codes.Unavailable, "cut")
			}
		}
	}
	return nil
}

func (f *fake) StreamingInputCall(
	s grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse],
) error {
	size := 0
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(
				&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: int32(size)},
			)
		}
		if err != nil {
			return err
		}
		size += len(r.GetPayload().GetBody())
	}
}

func (f *fake) FullDuplexCall(
	s grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse],
) error {
	for {
		r, err := s.Recv()
		if f.ended != nil && err != nil {
			f.ended <- err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&grpc_testing.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
		if f.cut.Add(-1) >= 0 {
			return status.Error(codes.Unavailable, "cut")
		}
	}
}

var descriptor = grpc_testing.File_grpc_testing_test_proto.Services().ByName("TestService")

const service = "grpc.testing.TestService/"

// stage is a console in front of a fake.
type stage struct {
	*fake
	address string
	console *console.Console
	tele    *telemetry.Telemetry
}

func start(t testing.TB, environ ...string) *stage { return startAt(t, "", environ...) }

// startAt has the console call a target, "" for a fake that it starts.
func startAt(t testing.TB, target string, environ ...string) *stage {
	t.Helper()
	s := &stage{fake: &fake{}, tele: telemetry.Discard()}
	if target == "" {
		target, _ = clienttest.Serve(
			t,
			"",
			func(r grpc.ServiceRegistrar) { grpc_testing.RegisterTestServiceServer(r, s.fake) },
		)
	}
	var cfg struct {
		RPC     rpc.ClientConfig `envPrefix:"RPC_"`
		Console console.Config   `envPrefix:"CONSOLE_"`
	}
	if err := config.Load("TEST_", environ, config.Group{Into: &cfg}); err != nil {
		t.Fatal(err)
	}
	peers := console.NewPeers()
	conn, err := rpc.NewClient(
		cfg.RPC,
		s.tele,
		target,
		[]protoreflect.ServiceDescriptor{descriptor},
		grpc.WithStatsHandler(peers),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	set, err := proto.Marshal(
		&descriptorpb.FileDescriptorSet{
			File: []*descriptorpb.FileDescriptorProto{
				protodesc.ToFileDescriptorProto(descriptor.ParentFile()),
			},
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	s.console, err = console.New(console.Options{
		Config:     cfg.Console,
		Product:    "test",
		Services:   []console.Service{{Descriptor: descriptor, Conn: conn}},
		Contract:   set,
		Peers:      peers,
		Telemetry:  s.tele,
		Resumption: clienttest.FastRetries(),
	})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = lis.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.console.Serve(ctx, lis) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

// page is a browser's side of one call.
type page struct {
	*websocket.Conn
	t   testing.TB
	ctx context.Context
	// came are events that were read and not looked at.
	came []event
}

func (s *stage) dial(t testing.TB, header http.Header) (*page, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	conn, response, err := websocket.Dial(
		ctx,
		"ws://"+s.address+"/api/call",
		&websocket.DialOptions{HTTPHeader: header, Subprotocols: []string{"call.v1"}},
	)
	if err != nil {
		return nil, response, err
	}
	conn.SetReadLimit(8 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &page{Conn: conn, t: t, ctx: ctx}, response, nil
}

// call opens a call with a start frame.
func (s *stage) call(t testing.TB, method string, more map[string]any) *page {
	t.Helper()
	p, _, err := s.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := map[string]any{"type": "start", "method": service + method}
	for name, value := range more {
		frame[name] = value
	}
	p.send(frame)
	return p
}

func (p *page) send(frame any) {
	p.t.Helper()
	text, err := json.Marshal(frame)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.Write(p.ctx, websocket.MessageText, text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) message(text string) {
	p.t.Helper()
	p.send(map[string]any{"type": "message", "message": json.RawMessage(text)})
}

// event is what tests look at.
type event struct {
	Type, Peer, Error string
	Attempt           int
	Number            *int
	Metadata          [][2]string
	Trailers          [][2]string
	Message           map[string]any
	Bytes             int
	Again             bool
	Status            struct {
		Code    codes.Code
		Name    string
		Message string
		Details []map[string]any
	}
}

// read returns the next event.
func (p *page) read() (event, error) {
	p.t.Helper()
	for len(p.came) == 0 {
		_, text, err := p.Read(p.ctx)
		if err != nil {
			return event{}, err
		}
		if err := json.Unmarshal(text, &p.came); err != nil {
			p.t.Fatalf("%v in %s", err, text)
		}
	}
	e := p.came[0]
	p.came = p.came[1:]
	return e, nil
}

// next is the next event of one of the types; those before it are left out.
func (p *page) next(kinds ...string) event {
	p.t.Helper()
	for {
		e, err := p.read()
		if err != nil {
			p.t.Fatalf("waiting for %s: %v", kinds, err)
		}
		if slices.Contains(kinds, e.Type) {
			return e
		}
		if e.Type == "status" {
			p.t.Fatalf("waiting for %s: %+v", kinds, e)
		}
	}
}

// ends wants a status, which is the last event.
func (p *page) ends(code codes.Code) event {
	p.t.Helper()
	e := p.next("status")
	if e.Status.Code != code {
		p.t.Errorf("%v %q, expected %v", e.Status.Code, e.Status.Message, code)
	}
	if after, err := p.read(); err == nil {
		p.t.Errorf("after the status: %+v", after)
	}
	return e
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen within 30 s: %s", what)
		}
	}
}

func body(size int) string { return base64.StdEncoding.EncodeToString(make([]byte, size)) }

func TestModes(t *testing.T) {
	s := start(t)
	t.Run("unary", func(t *testing.T) {
		p := s.call(t, "UnaryCall", map[string]any{"metadata": [][2]string{{"X-Name", "me"}}})
		p.message(`{"payload": {"body": "aGk="}}`)
		if e := p.next("attempt"); e.Attempt != 1 || e.Peer == "" {
			t.Errorf("attempt: %+v", e)
		}
		if e := p.next("header"); !contains(e.Metadata, "x-seen", "me") {
			t.Errorf("header: %+v", e)
		}
		if e := p.next("message"); e.Message["username"] != "x" || e.Bytes == 0 || e.Peer == "" {
			t.Errorf("message: %+v", e)
		}
		if e := p.ends(codes.OK); !contains(e.Trailers, "x-trailer", "bye") ||
			!contains(e.Trailers, "x-raw-bin", "AAE=") {
			t.Errorf("trailers: %+v", e)
		}
	})
	t.Run("server streaming", func(t *testing.T) {
		p := s.call(t, "StreamingOutputCall", nil)
		p.message(`{"responseParameters": [{"size": 1}, {"size": 2}, {"size": 3}]}`)
		for range 3 {
			p.next("message")
		}
		p.ends(codes.OK)
	})
	t.Run("client streaming", func(t *testing.T) {
		p := s.call(t, "StreamingInputCall", nil)
		for range 3 {
			p.message(`{"payload": {"body": "` + body(5) + `"}}`)
		}
		p.send(map[string]any{"type": "half_close"})
		if e := p.next("message"); e.Message["aggregatedPayloadSize"] != 15.0 {
			t.Errorf("message: %+v", e)
		}
		p.ends(codes.OK)
	})
	t.Run("bidirectional", func(t *testing.T) {
		p := s.call(t, "FullDuplexCall", nil)
		for range 3 {
			p.message(`{"payload": {"body": "aGk="}}`)
			if e := p.next("message"); e.Message["payload"].(map[string]any)["body"] != "aGk=" {
				t.Errorf("message: %+v", e)
			}
		}
		p.send(map[string]any{"type": "half_close"})
		p.ends(codes.OK)
	})
}

func contains(pairs [][2]string, name, value string) bool {
	for _, pair := range pairs {
		if pair == [2]string{name, value} {
			return true
		}
	}
	return false
}

func TestAStatusHasItsDetails(t *testing.T) {
	s := start(t)
	p := s.call(t, "UnaryCall", nil)
	p.message(`{"responseStatus": {"code": 5, "message": "not here"}}`)
	e := p.ends(codes.NotFound)
	if e.Status.Name != "NOT_FOUND" || e.Status.Message != "not here" || len(e.Status.Details) != 2 ||
		e.Status.Details[0]["reason"] != "BECAUSE" || e.Status.Details[1]["retryDelay"] != "1s" {
		t.Errorf("%+v", e.Status)
	}
}

func TestCancelEndsTheCallAtTheServer(t *testing.T) {
	s := start(t)
	s.ended = make(chan error, 1)
	p := s.call(t, "FullDuplexCall", nil)
	p.message(`{}`)
	p.next("message")
	p.send(map[string]any{"type": "cancel"})
	p.ends(codes.Canceled)
	if err := <-s.ended; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}

func TestATabThatIsClosedCancelsItsCall(t *testing.T) {
	s := start(t)
	s.ended = make(chan error, 1)
	p := s.call(t, "FullDuplexCall", nil)
	p.message(`{}`)
	p.next("message")
	_ = p.CloseNow()
	if err := <-s.ended; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
}

func TestADeadlineEndsTheCall(t *testing.T) {
	s := start(t)
	for _, method := range []string{"EmptyCall", "FullDuplexCall"} {
		p := s.call(t, method, map[string]any{"deadline": "50ms"})
		p.message(`{}`)
		p.ends(codes.DeadlineExceeded)
	}
}

func TestADeadlineEndsTheCallOfAPageThatTakesNoReplies(t *testing.T) {
	s := start(t)
	for _, resume := range []bool{false, true} {
		p := s.call(t, "StreamingOutputCall",
			map[string]any{"messages": 1, "deadline": "500ms", "resume": resume})
		p.message(`{"responseParameters": [{"size": 65536, "intervalUs": 4096}]}`)
		p.ends(codes.DeadlineExceeded)
	}
}

// TestABreakAndWhatComesAfterIt has a stream break twice.
func TestABreakAndWhatComesAfterIt(t *testing.T) {
	s := start(t)
	t.Run("server streaming", func(t *testing.T) {
		s.cut.Store(2)
		p := s.call(t, "StreamingOutputCall", map[string]any{"resume": true})
		p.message(`{"responseParameters": [{"size": 1}, {"size": 2}]}`)
		var happened []string
		for over := false; !over; {
			e := p.next("message", "break", "resume", "sent", "status")
			switch {
			case e.Type == "sent" && e.Again:
				happened = append(happened, "sent again")
			case e.Type == "sent":
				happened = append(happened, "sent")
			case e.Type == "break":
				happened = append(happened, fmt.Sprintf("break of %d: %s", e.Attempt, e.Status.Name))
			case e.Type == "resume":
				happened = append(happened, fmt.Sprintf("attempt %d", e.Attempt))
			case e.Type == "status":
				happened = append(happened, e.Status.Name)
				over = true
			case e.Type == "message":
				happened = append(happened, "message")
			}
		}
		want := []string{
			"sent", "message", "break of 1: UNAVAILABLE",
			"attempt 2", "sent again", "message", "break of 2: UNAVAILABLE",
			"attempt 3", "sent again", "message", "message", "OK",
		}
		if !slices.Equal(happened, want) {
			t.Errorf("got  %q\nwant %q", happened, want)
		}
	})
	t.Run("bidirectional", func(t *testing.T) {
		s.cut.Store(1)
		p := s.call(t, "FullDuplexCall", map[string]any{"resume": true})
		p.message(`{}`)
		p.next("break")
		p.next("message")
		p.send(map[string]any{"type": "half_close"})
		p.ends(codes.OK)
	})
	t.Run("not asked for", func(t *testing.T) {
		s.cut.Store(1)
		p := s.call(t, "StreamingOutputCall", nil)
		p.message(`{"responseParameters": [{"size": 1}, {"size": 2}]}`)
		p.ends(codes.Unavailable)
	})
}

// TestAPageThatTakesNothingHoldsBackTheServer has a server that would send 256 MiB.
func TestAPageThatTakesNothingHoldsBackTheServer(t *testing.T) {
	for name, more := range map[string]map[string]any{
		"does not read": nil, "has no more credit": {"messages": 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			p := s.call(t, "StreamingOutputCall", more)
			p.message(`{"responseParameters": [{"size": 65536, "intervalUs": 4096}]}`)
			if more != nil {
				p.next("message")
			}
			before := int64(-1)
			for now := s.sent.Load(); now == 0 || now != before; now = s.sent.Load() {
				before = now
				select {
				case <-time.After(300 * time.Millisecond):
				case <-p.ctx.Done():
					t.Fatal("the server sends on and on")
				}
			}
			runtime.GC()
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			if before >= 1024 || memory.HeapAlloc > 64<<20 {
				t.Errorf("%d messages of 64 KiB were sent, %d MiB are held", before, memory.HeapAlloc>>20)
			}
			if more != nil { // And it goes on when the page wants more.
				p.send(map[string]any{"type": "more", "messages": 200})
				for range 200 {
					p.next("message")
				}
			}
		})
	}
}

func TestBadFrames(t *testing.T) {
	s := start(t, "TEST_CONSOLE_MAX_FRAME_BYTES=16KiB")
	t.Run("no JSON", func(t *testing.T) {
		p := s.call(t, "FullDuplexCall", nil)
		if err := p.Write(p.ctx, websocket.MessageText, []byte("{nonsense")); err != nil {
			t.Fatal(err)
		}
		p.ends(codes.InvalidArgument)
	})
	t.Run("binary", func(t *testing.T) {
		p := s.call(t, "FullDuplexCall", nil)
		if err := p.Write(p.ctx, websocket.MessageBinary, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		p.ends(codes.InvalidArgument)
	})
	tooLarge := func(t *testing.T, p *page) {
		for {
			if _, err := p.read(); err != nil {
				if websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
					t.Error(err)
				}
				return
			}
		}
	}
	t.Run("too large", func(t *testing.T) {
		p := s.call(t, "FullDuplexCall", nil)
		p.next("started")
		p.message(`{"payload": {"body": "` + body(16<<10) + `"}}`)
		tooLarge(t, p)
	})
	t.Run("a start that would take far more memory than its text", func(t *testing.T) {
		s := start(t) // with frames of 1 MiB
		pairs := "[" + strings.TrimSuffix(strings.Repeat("[],", 10_000), ",") + "]"
		tooLarge(t, s.call(t, "FullDuplexCall", map[string]any{"metadata": json.RawMessage(pairs)}))
	})
	t.Run("a message of another type ends nothing", func(t *testing.T) {
		p := s.call(t, "FullDuplexCall", nil)
		p.message(`{"no_such_field": 1}`)
		e := p.next("error")
		if !strings.Contains(e.Error, "no_such_field") || e.Number == nil || *e.Number != 0 {
			t.Errorf("%+v", e)
		}
		p.message(`{"payload": {}}`)
		p.next("message")
		p.send(map[string]any{"type": "half_close"})
		p.ends(codes.OK)
	})
	for name, frame := range map[string]map[string]any{
		"unknown method":                    {"method": "no.such/Method"},
		"reserved metadata":                 {"metadata": [][2]string{{"grpc-timeout", "1S"}}},
		"pseudo-header":                     {"metadata": [][2]string{{":authority", "x"}}},
		"metadata that are not on the list": {"metadata": [][2]string{{"cookie", "x"}}},
		"metadata with a line break":        {"metadata": [][2]string{{"x-a", "b\r\nc: d"}}},
		"metadata without an end":           {"metadata": [][2]string{{"x-a", strings.Repeat("x", 9000)}}},
		"no deadline":                       {"deadline": "soon"},
		"no start":                          {"type": "message"},
	} {
		t.Run(name, func(t *testing.T) {
			code := codes.InvalidArgument
			if name == "unknown method" {
				code = codes.Unimplemented
			}
			s.call(t, "UnaryCall", frame).ends(code)
		})
	}
	t.Run("half-close without a message", func(t *testing.T) {
		for _, method := range []string{"UnaryCall", "StreamingOutputCall"} {
			p := s.call(t, method, nil)
			p.send(map[string]any{"type": "half_close"})
			p.ends(codes.InvalidArgument)
		}
	})
	t.Run("a message after half-close", func(t *testing.T) {
		p := s.call(t, "EmptyCall", nil)
		p.message(`{}`)
		p.message(`{}`)
		p.next("error")
		p.send(map[string]any{"type": "cancel"})
		p.ends(codes.Canceled)
	})
}

func TestTooManyCalls(t *testing.T) {
	for limit, environ := range map[string]string{"over all": "TEST_CONSOLE_MAX_CALLS=2", "of an address": "TEST_CONSOLE_MAX_CALLS_PER_CALLER=2"} {
		t.Run(limit, func(t *testing.T) {
			s := start(t, environ)
			first, second := s.call(t, "FullDuplexCall", nil), s.call(t, "FullDuplexCall", nil)
			first.next("started")
			second.next("started")
			third, _, err := s.dial(t, nil)
			if err != nil {
				t.Fatal(err)
			}
			third.ends(codes.ResourceExhausted)
			first.send(map[string]any{"type": "half_close"})
			first.ends(codes.OK)
			// The place is free when the server has heard that the page closed its side too.
			eventually(t, "a call gets the place", func() bool {
				e, err := s.call(t, "FullDuplexCall", nil).read()
				return err == nil && e.Type == "started"
			})
		})
	}
}

func TestAnIdleCallEnds(t *testing.T) {
	s := start(t, "TEST_CONSOLE_IDLE_TIMEOUT=100ms")
	s.call(t, "FullDuplexCall", nil).ends(codes.Canceled)
}

func TestACallThatIsHeldBackByTheServerCanBeCancelled(t *testing.T) {
	s := start(t)
	p := s.call(t, "EmptyCall", nil)
	p.message(`{}`)
	p.send(map[string]any{"type": "cancel"})
	p.ends(codes.Canceled)
}

func TestHostilePages(t *testing.T) {
	s := start(t, "TEST_CONSOLE_ORIGINS=https://friend.example")
	for origin, allowed := range map[string]bool{
		"http://" + s.address: true, "https://friend.example": true, "": true,
		"http://evil.example": false, "null": false, "https://friend.example.evil.example": false, "http://friend.example": false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		_, response, err := s.dial(t, header)
		if (err == nil) != allowed || !allowed && response.StatusCode != http.StatusForbidden {
			t.Errorf("origin %q: %v", origin, err)
		}
		if code := s.get(t, "/api/catalogue", "", header); (code == http.StatusOK) != allowed {
			t.Errorf("origin %q reads the catalogue: %d", origin, code)
		}
	}
	for host, allowed := range map[string]bool{
		"localhost:80": true, "127.0.0.1": true, "[::1]:80": true, "friend.example": true, "evil.example": false,
	} {
		if code := s.get(t, "/", host, nil); (code == http.StatusOK) != allowed {
			t.Errorf("host %q: %d", host, code)
		}
	}
}

func (s *stage) get(t *testing.T, path, host string, header http.Header) int {
	t.Helper()
	request, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodGet,
		"http://"+s.address+path,
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		request.Header = header.Clone()
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func TestTokens(t *testing.T) {
	s := start(t, "TEST_CONSOLE_TOKEN=all", "TEST_CONSOLE_READ_TOKEN=some")
	for token, want := range map[string]int{"all": 200, "some": 200, "": 401, "wrong": 401} {
		header := http.Header{"Authorization": {"Bearer " + token}}
		if code := s.get(t, "/api/catalogue", "", header); code != want {
			t.Errorf("catalogue with %q: %d", token, code)
		}
		if code := s.get(t, "/", "", nil); code != 200 {
			t.Errorf("the page itself: %d", code)
		}
		protocols := http.Header{
			"Sec-WebSocket-Protocol": {"bearer." + base64.RawURLEncoding.EncodeToString([]byte(token))},
		}
		_, response, err := s.dial(t, protocols)
		if (err == nil) != (want == 200) {
			t.Errorf("call with %q: %v %v", token, err, response)
		}
	}
	p, _, err := s.dial(t, http.Header{"Authorization": {"Bearer some"}})
	if err != nil {
		t.Fatal(err)
	}
	p.send(
		map[string]any{"type": "start", "method": service + "UnaryCall"},
	) // Nothing says that it is safe.
	p.ends(codes.PermissionDenied)
}

func TestNumbersAndPods(t *testing.T) {
	s := start(t)
	p := s.call(t, "UnaryCall", nil)
	p.message(`{"payload": {"body": "aGk="}}`)
	p.ends(codes.OK)
	live := s.call(t, "FullDuplexCall", nil)
	live.message(`{}`)
	live.next("message")
	var numbers struct {
		Live, Started, Failed float64
		BytesSent             float64 `json:"bytes_sent"`
		P99                   float64 `json:"p99_seconds"`
	}
	s.read(t, "/api/metrics?method="+service+"UnaryCall", &numbers)
	if numbers.Started != 1 || numbers.Failed != 0 || numbers.BytesSent == 0 || numbers.P99 <= 0 {
		t.Errorf("%+v", numbers)
	}
	var pods struct {
		Servers []struct{ State string }
		Pods    []console.Pod
	}
	s.read(t, "/api/pods?method="+service+"FullDuplexCall", &pods)
	if len(pods.Pods) != 1 || pods.Pods[0].Share != 1 || pods.Pods[0].Open != 1 ||
		pods.Servers[0].State != "READY" {
		t.Errorf("%+v", pods)
	}
	if code := s.get(t, "/api/metrics?method=no", "", nil); code != 404 {
		t.Errorf("metrics of no method: %d", code)
	}
}

func (s *stage) read(t *testing.T, path string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodGet,
		"http://"+s.address+path,
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func TestTheCatalogueDescribesAnyContract(t *testing.T) {
	s := start(t)
	var c struct {
		Services []struct {
			Name    string
			Methods []struct{ Name, Mode, Input string }
		}
		Messages map[string]struct {
			Fields []struct{ JSON, Kind, Type string }
		}
		Enums map[string]any
	}
	s.read(t, "/api/catalogue", &c)
	modes := map[string]string{}
	for _, m := range c.Services[0].Methods {
		modes[m.Name] = m.Mode
	}
	for name, want := range map[string]string{
		"UnaryCall": "unary", "StreamingOutputCall": "server_stream", "StreamingInputCall": "client_stream", "FullDuplexCall": "bidi_stream",
	} {
		if modes[name] != want {
			t.Errorf("%s is %q", name, modes[name])
		}
	}
	if _, ok := c.Enums["grpc.testing.PayloadType"]; !ok ||
		len(c.Messages["grpc.testing.SimpleRequest"].Fields) == 0 {
		t.Errorf("%+v", c)
	}
}

func TestAServerThatIsAway(t *testing.T) {
	address := porttest.Address(t)
	s := startAt(t, address)
	p := s.call(t, "UnaryCall", map[string]any{"deadline": "200ms"})
	p.message(`{}`)
	p.ends(codes.DeadlineExceeded)
	_, _ = clienttest.Serve(
		t,
		address,
		func(r grpc.ServiceRegistrar) { grpc_testing.RegisterTestServiceServer(r, s.fake) },
	)
	p = s.call(t, "UnaryCall", map[string]any{"deadline": "30s"})
	p.message(`{}`)
	p.ends(codes.OK)
}

func TestAConsoleThatStopsTellsItsPages(t *testing.T) {
	s := start(t)
	p := s.call(t, "FullDuplexCall", nil)
	p.message(`{}`)
	p.next("message")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	s.console.Stop(ctx)
	p.ends(codes.Unavailable)
	next, _, err := s.dial(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	next.ends(codes.Unavailable)
}

func TestConfig(t *testing.T) {
	for _, bad := range []string{
		"MAX_CALLS=0", "MAX_CALLS_PER_CALLER=-1", "MAX_FRAME_BYTES=1B", "IDLE_TIMEOUT=0s", "READ_TOKEN=x", "ORIGINS=example.com",
		"ORIGINS=https://a.example/path", "METADATA=a b", "TRACE_URL=javascript:alert(1)", "DASHBOARD_URL=/d/x",
		"ROLLOUT_URL=http://kubernetes.default.svc/x", "ROLLOUT_URL=https://a:b@c/x",
	} {
		var cfg console.Config
		name, _, _ := strings.Cut(bad, "=")
		if err := config.Load("T_", []string{"T_" + bad}, config.Group{Into: &cfg}); err == nil ||
			!strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestAMessageThatIsLargeOnlyWhenItIsDecodedTakesLittleMemory has calls keep messages of many empty
// ones, each of which takes two bytes when it is encoded, and a hundred when it is not.
func TestAMessageThatIsLargeOnlyWhenItIsDecodedTakesLittleMemory(t *testing.T) {
	s := start(t)
	many := `{"responseParameters": [` + strings.TrimSuffix(strings.Repeat("{},", 50_000), ",") + `]}`
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	before := memory.HeapAlloc
	for range 6 {
		p := s.call(t, "FullDuplexCall", map[string]any{"resume": true}) // What was sent is kept.
		p.message(many)
		p.message(many)
		p.next("sent")
		p.next("sent")
	}
	runtime.GC()
	runtime.ReadMemStats(&memory)
	if held := int64(memory.HeapAlloc) - int64(before); held > 16<<20 {
		t.Errorf("%d MiB are held", held>>20)
	}
}

// TestRequestsAreToldBeforeTheirReplies has many short answers come while requests are sent.
func TestRequestsAreToldBeforeTheirReplies(t *testing.T) {
	s := start(t)
	p := s.call(t, "FullDuplexCall", nil)
	const messages = 300
	for range messages {
		p.message(`{}`)
	}
	p.send(map[string]any{"type": "half_close"})
	for sent, replies := 0, 0; replies < messages; {
		if p.next("sent", "message").Type == "sent" {
			sent++
		} else if replies++; replies > sent {
			t.Fatalf("%d replies came to %d requests", replies, sent)
		}
	}
	p.ends(codes.OK)
}

// TestAnEventThatIsAloneIsToldSoon has a request to which there is no reply.
func TestAnEventThatIsAloneIsToldSoon(t *testing.T) {
	s := start(t)
	p := s.call(t, "StreamingInputCall", nil)
	p.message(`{}`)
	p.next("attempt")
	p.next("sent")
	p.send(map[string]any{"type": "cancel"})
	p.ends(codes.Canceled)
}

// BenchmarkEcho compares a conversation over the bridge with one over gRPC alone, and with the
// least that a bridge can do: it passes bytes on, in one goroutine for each direction.
func BenchmarkEcho(b *testing.B) {
	b.Run("bridge", func(b *testing.B) {
		s := start(b)
		p := s.call(b, "FullDuplexCall", nil)
		text := []byte(`{"type":"message","message":{"payload":{"body":"` + body(100) + `"}}}`)
		reply := []byte(`"type":"message"`)
		measure(b, func() {
			if err := p.Write(context.Background(), websocket.MessageText, text); err != nil {
				b.Fatal(err)
			}
			for found := false; !found; {
				_, events, err := p.Read(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				found = bytes.Contains(events, reply)
			}
		})
	})
	direct := func(b *testing.B) *grpc.ClientConn {
		target, _ := clienttest.Serve(
			b,
			"",
			func(r grpc.ServiceRegistrar) { grpc_testing.RegisterTestServiceServer(r, &fake{}) },
		)
		return clienttest.Dial(b, telemetry.Discard(), target, descriptor)
	}
	b.Run("bytes", func(b *testing.B) {
		conn := direct(b)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			passOn(w, r, conn)
		}))
		defer server.Close()
		socket, _, err := websocket.Dial(b.Context(), server.URL, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = socket.CloseNow() }()
		request, err := proto.Marshal(&grpc_testing.StreamingOutputCallRequest{
			Payload: &grpc_testing.Payload{Body: make([]byte, 100)},
		})
		if err != nil {
			b.Fatal(err)
		}
		measure(b, func() {
			if err := socket.Write(context.Background(), websocket.MessageBinary, request); err != nil {
				b.Fatal(err)
			}
			if _, _, err := socket.Read(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("gRPC", func(b *testing.B) {
		conn := direct(b)
		stream, err := grpc_testing.NewTestServiceClient(conn).FullDuplexCall(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		request := &grpc_testing.StreamingOutputCallRequest{
			Payload: &grpc_testing.Payload{Body: make([]byte, 100)},
		}
		measure(b, func() {
			if err := stream.Send(request); err != nil {
				b.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// passOn makes a call of bytes with the frames of a WebSocket as its messages.
func passOn(w http.ResponseWriter, r *http.Request, conn *grpc.ClientConn) {
	socket, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := conn.NewStream(
		ctx,
		&grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		"/"+service+"FullDuplexCall",
		grpc.ForceCodecV2(bytesCodec{}),
	)
	if err != nil {
		return
	}
	go func() {
		defer cancel()
		for {
			_, request, err := socket.Read(context.Background())
			if err != nil || stream.SendMsg(request) != nil {
				return
			}
		}
	}()
	for {
		var reply []byte
		if stream.RecvMsg(&reply) != nil ||
			socket.Write(context.Background(), websocket.MessageBinary, reply) != nil {
			_ = socket.CloseNow()
			return
		}
	}
}

// bytesCodec has messages that are encoded already.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// measure reports the median and the 99th percentile beside the mean.
func measure(b *testing.B, do func()) {
	var all []time.Duration
	for b.Loop() {
		began := time.Now()
		do()
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}
