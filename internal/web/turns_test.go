package web_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/interop/grpc_testing"

	"example.com/quartet/internal/app/apptest"
)

const oneProcessor = "TEST_WEB_PROCESSORS_PER_CALLER=1"

// TestARequestThatWaitsGivesItsTurnToTheNext has far more streams open than requests of one caller
// are worked on at once, some of which wait for their service and some for their client.
func TestARequestThatWaitsGivesItsTurnToTheNext(t *testing.T) {
	held := &service{entered: make(chan struct{}, 20), release: make(chan struct{})}
	s := start(t, held, oneProcessor)
	for range 10 {
		raw(t, s, request(upload, "application/connect+json", 1000)) // The first message does not come.
	}
	for i := range 20 {
		stream, err := downloadClient(t, s, protocols[i%2]).CallServerStream(apptest.Deadline(t),
			connect.NewRequest(sizes(1)))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
	}
	for range 20 {
		<-held.entered
	}
	if _, answer := post(t, over(t, false, local), s, unary, "application/json",
		strings.NewReader("{}")); answer != "{}" {
		t.Errorf("a call beside them got %q", answer)
	}
	close(held.release)
}

// TestCallsThatWaitForTheirTurnAreServed has no call refused that there is a place for.
func TestCallsThatWaitForTheirTurnAreServed(t *testing.T) {
	s := start(t, &service{}, oneProcessor)
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			client := unaryClient(t, s, p)
			var calls sync.WaitGroup
			for range 100 {
				calls.Go(func() {
					if _, err := client.CallUnary(apptest.Deadline(t),
						connect.NewRequest(&grpc_testing.SimpleRequest{})); err != nil {
						t.Error(err)
					}
				})
			}
			calls.Wait()
		})
	}
}

// TestMoreThanMayWaitAreRefusedInTheirOwnProtocol floods a server that has one call of a caller
// wait, until one is refused for that.
func TestMoreThanMayWaitAreRefusedInTheirOwnProtocol(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			s := start(t, &service{}, oneProcessor, "TEST_RPC_MAX_IN_FLIGHT=1", "TEST_RPC_MAX_STREAMS=1")
			call, stream := unaryClient(t, s, p), downloadClient(t, s, p)
			t.Run("unary", func(t *testing.T) {
				untilRefused(t, func(ctx context.Context) error {
					_, err := call.CallUnary(ctx, connect.NewRequest(&grpc_testing.SimpleRequest{}))
					return err
				})
			})
			t.Run("stream", func(t *testing.T) {
				untilRefused(t, func(ctx context.Context) error {
					messages, err := stream.CallServerStream(ctx, connect.NewRequest(sizes(1)))
					if err != nil {
						return err
					}
					defer messages.Close()
					for messages.Receive() {
					}
					return messages.Err()
				})
			})
			for _, method := range []string{unary, download} {
				if handled(t, s, method, "ResourceExhausted") == 0 {
					t.Errorf("no refused call of %s is counted", method)
				}
			}
		})
	}
}

// untilRefused makes calls at once until one is refused because too many wait. Each either succeeds
// or is told to come back.
func untilRefused(t *testing.T, call func(context.Context) error) {
	t.Helper()
	ctx := apptest.Deadline(t)
	var refused atomic.Bool
	var callers sync.WaitGroup
	for range 10 {
		callers.Go(func() {
			for !refused.Load() && ctx.Err() == nil {
				err := call(ctx)
				failure := new(connect.Error)
				if err == nil || ctx.Err() != nil {
					continue
				}
				if !errors.As(err, &failure) || failure.Code() != connect.CodeResourceExhausted ||
					!comesBack(failure) {
					t.Errorf("got %v", err)
					return
				}
				if strings.Contains(failure.Message(), "wait") {
					refused.Store(true)
				}
			}
		})
	}
	callers.Wait()
	if !refused.Load() {
		t.Error("no call was refused because others wait")
	}
}

// comesBack is true if an error has the reason OVERLOADED and says when to come back.
func comesBack(failure *connect.Error) bool {
	reason, delay := "", false
	for _, detail := range failure.Details() {
		value, _ := detail.Value()
		switch value := value.(type) {
		case *errdetails.ErrorInfo:
			reason = value.GetReason()
		case *errdetails.RetryInfo:
			delay = value.GetRetryDelay().AsDuration() > 0
		}
	}
	return reason == "OVERLOADED" && delay
}
