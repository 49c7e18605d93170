package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unsafe"

	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // as a server that lets clients compress
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/telemetry/telemetrytest"
)

// paths are a method of each mode, those first that take one request.
var paths = []struct{ mode, path, method string }{
	{"unary", grpc_testing.TestService_UnaryCall_FullMethodName, "UnaryCall"},
	{"server stream", grpc_testing.TestService_StreamingOutputCall_FullMethodName,
		"StreamingOutputCall"},
	{"client stream", grpc_testing.TestService_StreamingInputCall_FullMethodName,
		"StreamingInputCall"},
	{"bidi stream", grpc_testing.TestService_FullDuplexCall_FullMethodName, "FullDuplexCall"},
}

// TestWhatAClientSendsWrongIsItsFault expects one status on the wire, in the metrics, in the log
// and in the span, none of which takes it for a failure of the server.
func TestWhatAClientSendsWrongIsItsFault(t *testing.T) {
	const truncated = "\x00\x00\x00\x00\x09123"
	mistakes := []struct {
		name, data string
		headers    []string
		code       codes.Code
		request    bool // where one request is expected
	}{
		{"half a message", truncated, nil, codes.Internal, false},
		{"half a prefix", "\x00\x00", nil, codes.Internal, false},
		{"compressed, with no encoding named", message(1, "x"), nil, codes.Internal, false},
		{"an unknown flag", message(7, "x"), nil, codes.Internal, false},
		{"garbage for gzip", message(1, "no gzip"), []string{"grpc-encoding", "gzip"}, codes.Internal,
			false},
		{"too large", message(0, strings.Repeat("x", 1001)), nil, codes.ResourceExhausted, false},
		{"garbage for protobuf", message(0, "\xff"), nil, codes.InvalidArgument, false},
		{"no request", "", nil, codes.Internal, true},
		{"two requests", message(0, "") + message(0, ""), nil, codes.Internal, true},
		{"a request and a half", message(0, "") + truncated, nil, codes.Internal, true},
	}
	for i, test := range paths {
		for _, mistake := range mistakes {
			if mistake.request && i > 1 {
				continue
			}
			t.Run(test.mode+"/"+mistake.name, func(t *testing.T) {
				var log telemetrytest.Log
				spans := tracetest.NewSpanRecorder()
				s := defaults()
				s.server.MaxReceiveBytes, s.server.AcceptCompressed = 1000, true
				s.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				s.tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
				r := s.start(t, succeed)
				client := dialFrames(t, r.address)
				stream := client.call(test.path, mistake.headers...)
				client.must(client.WriteData(stream, true, []byte(mistake.data)))
				st := client.end(stream)
				if st.Code() != mistake.code {
					t.Errorf("the client got %v", st)
				}
				_ = client.conn.Close()
				stop(t, r)
				if got := r.handled(t, test.method, mistake.code.String()); got != 1 {
					t.Errorf("counted %v times as %s", got, mistake.code)
				}
				if got := r.faults(t, test.method); (got == 1) == (mistake.code == codes.InvalidArgument) {
					t.Errorf("counted %v times as the client's fault", got)
				}
				if got := log.String(); !strings.Contains(got, "level=DEBUG msg=\"served call\"") ||
					!strings.Contains(got, "code="+mistake.code.String()) ||
					!strings.Contains(got, fmt.Sprintf("message=%q", st.Message())) {
					t.Errorf("the client got %v, and the log says %s", st, got)
				}
				if ended := spans.Ended(); len(ended) != 1 || ended[0].Status().Code == otelcodes.Error {
					t.Errorf("the spans are %v", ended)
				}
			})
		}
	}
}

// TestCallsRefusedOnArrivalAreCounted has those that no interceptor sees.
func TestCallsRefusedOnArrivalAreCounted(t *testing.T) {
	for name, test := range map[string]struct {
		path, method string
		headers      []string
		code         codes.Code
	}{
		"no service": {"/x", "other", nil, codes.Unimplemented},
		"no name":    {"/", "other", nil, codes.Unimplemented},
		"no time": {paths[0].path, paths[0].method, []string{"grpc-timeout", "0S"},
			codes.DeadlineExceeded},
		"no time too": {paths[3].path, paths[3].method, []string{"grpc-timeout", "0S"},
			codes.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			var log telemetrytest.Log
			s := defaults()
			s.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			r := s.start(t, succeed)
			client := dialFrames(t, r.address)
			if st := client.end(client.call(test.path, test.headers...)); st.Code() != test.code {
				t.Errorf("the client got %v", st)
			}
			_ = client.conn.Close()
			stop(t, r)
			if got := r.handled(t, test.method, test.code.String()); got != 1 {
				t.Errorf("counted %v times", got)
			}
			if got := log.String(); !strings.Contains(got, "level=DEBUG msg=\"served call\" method="+
				test.path[1:]) && test.path != "/" {
				t.Errorf("logged %s", got)
			}
		})
	}
}

// TestUnknownEncodingsOnlyArrive says what docs/telemetry.md does: if it fails, a version of
// grpc-go lets us see them.
func TestUnknownEncodingsOnlyArrive(t *testing.T) {
	for _, test := range paths {
		t.Run(test.mode, func(t *testing.T) {
			r := defaults().start(t, succeed)
			client := dialFrames(t, r.address)
			if st := client.end(client.call(test.path, "grpc-encoding",
				"unheard-of")); st.Code() != codes.Unimplemented {
				t.Errorf("the client got %v", st)
			}
			_ = client.conn.Close()
			stop(t, r)
			if got := r.handled(t, test.method, "Unimplemented"); got != 0 {
				t.Errorf("counted %v times", got)
			}
		})
	}
}

// requests are calls that take one request, of built-in services among them.
var requests = map[string]string{
	"unary":              paths[0].path,
	"server stream":      paths[1].path,
	"a check of health":  healthpb.Health_Check_FullMethodName,
	"a watch of health":  healthpb.Health_Watch_FullMethodName,
	"the list of health": healthpb.Health_List_FullMethodName,
}

func TestRequestsHaveToArrive(t *testing.T) {
	for name, path := range requests {
		for what, data := range map[string]string{"headers only": "",
			"half a request": message(0, "request")[:8]} {
			t.Run(name+"/"+what, func(t *testing.T) {
				s := defaults()
				s.server.FirstMessageTimeout = 50 * time.Millisecond
				r := s.start(t, succeed)
				client := dialFrames(t, r.address)
				stream := client.call(path)
				client.must(client.WriteData(stream, false, []byte(data)))
				if st := client.end(stream); st.Code() != codes.DeadlineExceeded ||
					errorInfo(st).GetReason() != "IDLE" {
					t.Errorf("got %v with %v", st, st.Details())
				}
				_ = client.conn.Close()
				stop(t, r)
				method := path[strings.LastIndex(path, "/")+1:]
				if all, faults := r.handled(t, method, "DeadlineExceeded"), r.faults(t, method); all != 1 ||
					faults != 1 {
					t.Errorf("counted %v times, %v as the client's fault", all, faults)
				}
			})
		}
	}
}

// TestStreamsMayBeginLater has them outlive a request that does not come.
func TestStreamsMayBeginLater(t *testing.T) {
	for _, test := range paths[2:] {
		t.Run(test.mode, func(t *testing.T) {
			t.Parallel() // They wait.
			s := defaults()
			s.server.FirstMessageTimeout = time.Second
			r := s.start(t, succeed)
			client := dialFrames(t, r.address)
			stream := client.call(test.path)
			client.end(client.call(paths[0].path))
			client.must(client.WriteData(stream, true, []byte(message(0, ""))))
			if st := client.end(stream); st.Code() != codes.OK {
				t.Errorf("got %v", st)
			}
		})
	}
}

// withGrace gives requests that are on their way when a drain begins another time to arrive than
// requestGrace.
func (s setup) withGrace(grace time.Duration) setup {
	s.prepare = func(server *Server) { server.incoming.grace = grace }
	return s
}

func TestTheDrainEndsCallsThatHaveNotBegun(t *testing.T) {
	calls := map[string]string{}
	for name, path := range requests {
		calls[name] = path
	}
	delete(calls, "a watch of health") // It ends as all streams of built-in services do.
	for _, stream := range paths[2:] {
		calls[stream.mode] = stream.path
	}
	for name, path := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // They wait.
			s := defaults()
			// A drain that waited for as long as that would take more than its limit below.
			s.server.FirstMessageTimeout = time.Minute
			const grace = 10 * time.Second
			if requests[name] == "" {
				s = s.withGrace(grace) // A stream does not get it.
			}
			r := s.start(t, succeed)
			client := dialFrames(t, r.address)
			stream := client.call(path)
			r.awaitUnbegun(t)
			stopped := make(chan error, 1)
			began := time.Now()
			go func() { stopped <- r.server.GracefulStop(testContext(t)) }()
			st := client.end(stream)
			if st.Code() != codes.Unavailable || errorInfo(st).GetReason() != "STOPPING" {
				t.Errorf("got %v with %v", st, st.Details())
			}
			if took := time.Since(began); requests[name] == "" && took > grace {
				t.Errorf("the stream ended after %s", took)
			}
			// A request that is not there is its client's fault, and a stream that has not begun none.
			if requests[name] == "" {
				r.wantEndedFor(t, telemetry.EndDrain)
			}
			client.untilClosed()
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("the drain took %s", took)
			}
		})
	}
}

// TestTheClockMayBeSet has the clock of the host set forward, as after a pause of a virtual
// machine, while a request is on its way.
func TestTheClockMayBeSet(t *testing.T) {
	r := defaults().start(t, succeed)
	client := dialFrames(t, r.address)
	stream := client.call(paths[0].path)
	r.awaitUnbegun(t)
	in := r.server.incoming
	in.mu.Lock()
	in.sweep(setForward(time.Now(), time.Hour))
	in.mu.Unlock()
	client.must(client.WriteData(stream, true, []byte(message(0, ""))))
	if st := client.end(stream); st.Code() != codes.OK {
		t.Errorf("got %v", st)
	}
}

// setForward is a time by a clock that was set: later by that one, and the same by the monotonic.
func setForward(at time.Time, by time.Duration) time.Time {
	const secondsShift = 30 // as package time packs them, above the nanoseconds
	set := at
	wall := (*uint64)(unsafe.Pointer(&set))
	*wall += uint64(by/time.Second) << secondsShift
	if set.Sub(at) != 0 || set.UnixNano()-at.UnixNano() != int64(by) {
		panic("package time keeps its times in another way")
	}
	return set
}

func TestTheDrainWaitsForRequestsOnTheirWay(t *testing.T) {
	r := defaults().withGrace(10*time.Second).start(t, succeed)
	client := dialFrames(t, r.address)
	stream := client.call(paths[0].path)
	r.awaitUnbegun(t)
	stopped := make(chan error, 1)
	go func() { stopped <- r.server.GracefulStop(testContext(t)) }()
	client.untilGoAway()
	client.must(client.WriteData(stream, true, []byte(message(0, ""))))
	if st := client.end(stream); st.Code() != codes.OK {
		t.Errorf("got %v", st)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestARequestThatStopsHalfwayDoesNotHoldUpTheDrain has the first half of a request come while the
// server is stopping, and nothing after it.
func TestARequestThatStopsHalfwayDoesNotHoldUpTheDrain(t *testing.T) {
	for _, path := range paths {
		t.Run(path.mode, func(t *testing.T) {
			t.Parallel() // They wait.
			s := defaults()
			s.server.FirstMessageTimeout = time.Minute
			r := s.start(t, succeed)
			client := dialFrames(t, r.address)
			stream := client.call(path.path)
			r.awaitUnbegun(t)
			stopped := make(chan error, 1)
			began := time.Now()
			go func() { stopped <- r.server.GracefulStop(testContext(t)) }()
			eventually(t, "the server is stopping", r.server.incoming.stopping.Load)
			client.must(client.WriteData(stream, false, []byte(message(0, "0123456789")[:7])))
			if st := client.end(stream); st.Code() != codes.Unavailable ||
				errorInfo(st).GetReason() != "STOPPING" {
				t.Errorf("got %v with %v", st, st.Details())
			}
			client.untilClosed()
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("the drain took %s", took)
			}
		})
	}
}

// TestTheDrainLetsStreamsEndThatHaveBegun has a client that waits with its next message until the
// server is stopping.
func TestTheDrainLetsStreamsEndThatHaveBegun(t *testing.T) {
	handle, entered, release := hold()
	r := defaults().start(t, handle)
	client := dialFrames(t, r.address)
	stream := client.call(paths[3].path)
	client.must(client.WriteData(stream, false, []byte(message(0, ""))))
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- r.server.GracefulStop(testContext(t)) }()
	client.untilGoAway()
	release()
	if st := client.end(stream); st.Code() != codes.OK {
		t.Errorf("got %v", st)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func (r *running) awaitUnbegun(t *testing.T) {
	t.Helper()
	eventually(t, "the call waits for its first message", func() bool {
		r.server.incoming.mu.Lock()
		defer r.server.incoming.mu.Unlock()
		return len(r.server.incoming.calls) == 1
	})
}

// BenchmarkUnaryCall is a whole unary call over a loopback connection.
func BenchmarkUnaryCall(b *testing.B) {
	r := defaults().start(b, succeed)
	request := &grpc_testing.SimpleRequest{Payload: payload(100)}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.stub.UnaryCall(ctx, request); err != nil {
			b.Fatal(err)
		}
	}
}
