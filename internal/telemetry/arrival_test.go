package telemetry

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// garbage is a codec whose messages cannot be decoded.
type garbage struct{}

func (garbage) Marshal(any) ([]byte, error) { return []byte{0xff}, nil }
func (garbage) Unmarshal([]byte, any) error { return nil }
func (garbage) Name() string                { return "proto" }

// TestRefusedRequestsArrive sends what grpc-go refuses before any interceptor,
// and expects it to be counted as arrived and not as started.
func TestRefusedRequestsArrive(t *testing.T) {
	tests := map[string]struct {
		code codes.Code
		call func(context.Context, *pair) error
	}{
		"undecodable": {codes.Internal, func(ctx context.Context, p *pair) error {
			_, err := p.stub.UnaryCall(ctx, &grpc_testing.SimpleRequest{}, grpc.ForceCodec(garbage{}))
			return err
		}},
		"too large": {codes.ResourceExhausted, func(ctx context.Context, p *pair) error {
			_, err := p.stub.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(5 << 20)})
			return err
		}},
		"nothing wrong": {codes.OK, func(ctx context.Context, p *pair) error { return p.callUnary(ctx) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := start(t, &service{}, Discard(), Discard())
			if err := test.call(testContext(t), p); status.Code(err) != test.code {
				t.Fatalf("got %v, want %s", err, test.code)
			}
			p.settle()
			arrived, started := p.arrived(
				"unary",
				testServiceName,
				"UnaryCall",
			), read(
				t,
				p.server.server,
				unary,
				"UnaryCall",
			).started
			if refused := test.code != codes.OK; arrived != 1 || (started == 0) != refused {
				t.Errorf("%v arrived and %v were started", arrived, started)
			}
		})
	}
}

func (p *pair) arrived(labels ...string) float64 {
	return testutil.ToFloat64(p.server.server.arrived.WithLabelValues(labels...))
}

// TestUnknownMethodsArriveAsWhatTheyAreHandled keeps arrived and started of the
// methods that are not registered comparable.
func TestUnknownMethodsArriveAsWhatTheyAreHandled(t *testing.T) {
	p := start(t, &service{}, Discard(), Discard())
	if err := p.conn.Invoke(testContext(t), "/no.such.Service/Method", &grpc_testing.Empty{},
		&grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Fatal(err)
	}
	p.settle()
	labels := []string{"bidi_stream", other, other}
	if got := p.arrived(labels...); got != 1 {
		t.Errorf("%v arrived", got)
	}
	if got := testutil.ToFloat64(p.server.server.started.WithLabelValues(labels...)); got != 1 {
		t.Errorf("%v were started", got)
	}
}

// TestRetriesAreCounted lets grpc-go's client repeat a call, which the client
// counts once, and the server with every attempt.
func TestRetriesAreCounted(t *testing.T) {
	var attempts atomic.Int32
	s := &service{
		unary: func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
			if attempts.Add(1) < 3 {
				return nil, status.Error(codes.Unavailable, "not yet")
			}
			return &grpc_testing.SimpleResponse{}, nil
		},
	}
	p := start(
		t,
		s,
		Discard(),
		Discard(),
		grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3,
		"initialBackoff": "0.001s", "maxBackoff": "0.001s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`),
	)
	if err := p.callUnary(testContext(t)); err != nil {
		t.Fatal(err)
	}
	p.settle()
	labels := []string{"unary", testServiceName, "UnaryCall"}
	if arrived, retried := p.arrived(labels...), p.retried(labels...); arrived != 3 || retried != 2 {
		t.Errorf("%v arrived and %v of them were retries, want 3 and 2", arrived, retried)
	}
	if got := read(t, p.client.client, unary, "UnaryCall").started; got != 1 {
		t.Errorf("the client counts %v calls", got)
	}
}

func (p *pair) retried(labels ...string) float64 {
	return testutil.ToFloat64(p.server.server.retried.WithLabelValues(labels...))
}
