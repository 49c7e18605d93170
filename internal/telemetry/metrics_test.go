package telemetry

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

const testServiceName = "grpc.testing.TestService"

// numbers are the values of one method's metrics.
type numbers struct{ started, ok, sent, received, inFlight, observed float64 }

func read(t *testing.T, f *callMetrics, k kind, method string) numbers {
	t.Helper()
	labels := []string{string(k), testServiceName, method}
	return numbers{
		started:  testutil.ToFloat64(f.started.WithLabelValues(labels...)),
		ok:       testutil.ToFloat64(f.ended(labels, "OK", "")),
		sent:     testutil.ToFloat64(f.msgSent.WithLabelValues(labels...)),
		received: testutil.ToFloat64(f.msgReceived.WithLabelValues(labels...)),
		inFlight: testutil.ToFloat64(f.inFlight.WithLabelValues(labels...)),
		observed: float64(histogram(t, f.seconds[k].WithLabelValues(labels[1:]...)).GetSampleCount()),
	}
}

func histogram(t *testing.T, o prometheus.Observer) *dto.Histogram {
	t.Helper()
	var m dto.Metric
	if err := o.(prometheus.Metric).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetHistogram()
}

func TestMetricsInFourModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode.kind), func(t *testing.T) {
			p := start(t, &service{}, Discard(), Discard())
			if err := mode.call(p, testContext(t)); err != nil {
				t.Fatal(err)
			}
			p.settle()
			want := numbers{started: 1, ok: 1, sent: mode.sent, received: mode.received, observed: 1}
			if got := read(t, p.client.client, mode.kind, mode.method); got != want {
				t.Errorf("client: got %+v, want %+v", got, want)
			}
			want.sent, want.received = want.received, want.sent
			if got := read(t, p.server.server, mode.kind, mode.method); got != want {
				t.Errorf("server: got %+v, want %+v", got, want)
			}
			sameBytes(t, p, mode.kind, mode.method)
		})
	}
}

// sameBytes checks that what one side sent is what the other received, and
// that the payloads are in it.
func sameBytes(t *testing.T, p *pair, k kind, method string) {
	t.Helper()
	labels := []string{string(k), testServiceName, method}
	bytes := func(of *prometheus.CounterVec) float64 {
		return testutil.ToFloat64(of.WithLabelValues(labels...))
	}
	up, got := bytes(p.client.client.bytesSent), bytes(p.server.server.bytesReceived)
	if got != up || up < 100 {
		t.Errorf("client sent %v bytes, server received %v", up, got)
	}
	down, got := bytes(p.server.server.bytesSent), bytes(p.client.client.bytesReceived)
	if got != down || down == 0 {
		t.Errorf("server sent %v bytes, client received %v", down, got)
	}
}

func TestMessagesCountWhileTheStreamRuns(t *testing.T) {
	p := start(t, &service{}, Discard(), Discard())
	stream, err := p.stub.FullDuplexCall(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(1)}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := read(t, p.client.client, bidiStream, "FullDuplexCall"),
		(numbers{started: 1, sent: 2, received: 2, inFlight: 1}); got != want {
		t.Errorf("client: got %+v, want %+v", got, want)
	}
	// The handler counts a reply after it was sent, so of the second we only
	// know that it is on its way.
	got := read(t, p.server.server, bidiStream, "FullDuplexCall")
	if got.inFlight != 1 || got.received != 2 || got.sent < 1 {
		t.Errorf("server: got %+v, want 1 in flight, 2 received and at least 1 sent", got)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// TestClientStreamsEnd takes every way out of a stream that grpc-go knows, and
// expects the call to be settled with the right code.
func TestClientStreamsEnd(t *testing.T) {
	refuse := &service{
		upload: func(grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
			return status.Error(codes.Aborted, "a newer writer took over")
		},
		download: func(stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
			<-stream.Context().Done()
			return stream.Context().Err()
		},
	}
	tests := []struct {
		name   string
		kind   kind
		method string
		code   codes.Code
		call   func(t *testing.T, ctx context.Context, cancel func(), p *pair)
	}{
		{
			"the server answers with an error",
			clientStream,
			"StreamingInputCall",
			codes.Aborted,
			func(t *testing.T, ctx context.Context, _ func(), p *pair) {
				t.Helper()
				stream, err := p.stub.StreamingInputCall(ctx)
				if err == nil {
					_, err = stream.CloseAndRecv()
				}
				if status.Code(err) != codes.Aborted {
					t.Error(err)
				}
			},
		},
		{
			"the context is cancelled and the client does not receive",
			serverStream,
			"StreamingOutputCall",
			codes.Canceled,
			func(t *testing.T, ctx context.Context, cancel func(), p *pair) {
				t.Helper()
				if _, err := p.stub.StreamingOutputCall(ctx,
					&grpc_testing.StreamingOutputCallRequest{}); err != nil {
					t.Error(err)
				}
				cancel()
			},
		},
		{
			"the deadline passes",
			serverStream,
			"StreamingOutputCall",
			codes.DeadlineExceeded,
			func(t *testing.T, ctx context.Context, _ func(), p *pair) {
				t.Helper()
				ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				t.Cleanup(cancel)
				if _, err := p.stub.StreamingOutputCall(ctx,
					&grpc_testing.StreamingOutputCallRequest{}); err != nil &&
					status.Code(err) != codes.DeadlineExceeded {
					t.Error(err)
				}
			},
		},
		{
			"the connection is closed",
			serverStream,
			"StreamingOutputCall",
			codes.Canceled,
			func(t *testing.T, ctx context.Context, _ func(), p *pair) {
				if _, err := p.stub.StreamingOutputCall(ctx,
					&grpc_testing.StreamingOutputCallRequest{}); err != nil {
					t.Error(err)
				}
				_ = p.conn.Close()
			},
		},
		{
			"the connection was closed before",
			serverStream,
			"StreamingOutputCall",
			codes.Canceled,
			func(t *testing.T, ctx context.Context, _ func(), p *pair) {
				_ = p.conn.Close()
				if _, err := p.stub.StreamingOutputCall(ctx,
					&grpc_testing.StreamingOutputCallRequest{}); err == nil {
					t.Error("a stream on a closed connection")
				}
			},
		},
		{
			"a message cannot be sent and the client does not receive",
			bidiStream,
			"FullDuplexCall",
			codes.ResourceExhausted,
			func(t *testing.T, ctx context.Context, _ func(), p *pair) {
				stream, err := p.stub.FullDuplexCall(ctx, grpc.MaxCallSendMsgSize(10))
				if err == nil {
					err = stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(100)})
				}
				if status.Code(err) != codes.ResourceExhausted {
					t.Error(err)
				}
			},
		},
		{
			"sending meets the end and the caller leaves",
			clientStream,
			"StreamingInputCall",
			codes.Canceled,
			func(t *testing.T, ctx context.Context, cancel func(), p *pair) {
				stream, err := p.stub.StreamingInputCall(ctx)
				for err == nil {
					err = stream.Send(&grpc_testing.StreamingInputCallRequest{})
				}
				if !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				cancel()
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, refuse, Discard(), Discard())
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			test.call(t, ctx, cancel, p)
			labels := []string{string(test.kind), testServiceName, test.method}
			ended := p.client.client.ended(labels, test.code.String(), "")
			waitUntil(t, ctx, func() bool { return testutil.ToFloat64(ended) == 1 })
			if got := testutil.ToFloat64(p.client.client.inFlight.WithLabelValues(labels...)); got != 0 {
				t.Errorf("%v in flight", got)
			}
		})
	}
}

// waitUntil waits for what another goroutine is about to do. It gives up after
// a while of its own, because ctx may be the one that the test cancels.
func waitUntil(t *testing.T, ctx context.Context, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for !done() {
		if ctx.Err() != nil {
			t.Fatal("it did not happen within 10 s")
		}
		runtime.Gosched()
	}
}

func TestMethodsCountFromZero(t *testing.T) {
	server := Discard()
	server.NewServerCalls(testService())
	for _, code := range expectedCodes {
		labels := []string{"unary", testServiceName, "EmptyCall"}
		if got := testutil.ToFloat64(server.server.ended(labels, code.String(), "")); got != 0 {
			t.Errorf("%s: %v", code, got)
		}
	}
	methods := testService().Methods().Len() + 1 // and those that are not registered
	if got, want := testutil.CollectAndCount(server.server, "grpc_server_handled_total"),
		methods*(len(expectedCodes)+len(excused)); got != want {
		t.Errorf("%d series of handled_total from the start, want %d", got, want)
	}
	if got := testutil.CollectAndCount(server.server, "grpc_server_handling_seconds"); got != methods {
		t.Errorf("%d histograms from the start, want %d", got, methods)
	}
}

func TestTwoClientsShareOneRegistry(t *testing.T) {
	client := Discard()
	first, second := client.NewClientCalls(testService()), client.NewClientCalls(testService())
	const method = "/" + testServiceName + "/UnaryCall"
	first.side.methods.find(method, unary).started.Inc()
	second.side.methods.find(method, unary).started.Inc()
	if got := read(t, client.client, unary, "UnaryCall").started; got != 2 {
		t.Errorf("started is %v, want 2", got)
	}
}

// TestCallersChooseNoLabels counts unknown methods and invented codes under
// fixed names.
func TestCallersChooseNoLabels(t *testing.T) {
	server := Discard()
	table := server.NewServerCalls(testService()).side.methods
	m := table.find("/no.such.Service/Method", bidiStream)
	if m.name != other || m != table.find("/another/one", bidiStream) {
		t.Errorf("an unknown method has the entry %q", m.name)
	}
	m.countOf(known(99), "").Inc()
	unknown := server.server.ended([]string{"bidi_stream", other, other}, "Unknown", "")
	if got := testutil.ToFloat64(unknown); got != 1 {
		t.Errorf("code 99 was counted %v times as Unknown", got)
	}
}

func TestBucketsFitTheMode(t *testing.T) {
	server := Discard()
	table := server.NewServerCalls(testService()).side.methods
	tests := map[string]float64{"UnaryCall": 10, "FullDuplexCall": 3600}
	for name, longest := range tests {
		m := table.find("/"+testServiceName+"/"+name, unary)
		buckets := histogram(t, m.seconds).GetBucket()
		if got := buckets[len(buckets)-1].GetUpperBound(); got != longest {
			t.Errorf("%s: the last bound is %v s, want %v s", name, got, longest)
		}
	}
}
