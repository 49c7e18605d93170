package rpc

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

type streamRequest = grpc_testing.StreamingOutputCallRequest

// split is a service whose streams are handled by goroutines of their own, one of which panics.
type split struct {
	grpc_testing.UnimplementedTestServiceServer
}

func (s *split) FullDuplexCall(
	stream grpc.BidiStreamingServer[streamRequest, grpc_testing.StreamingOutputCallResponse],
) error {
	requests := Receive(stream.Context(), func() (*streamRequest, error) {
		request, err := stream.Recv()
		if request.GetPayload().GetBody() == nil && err == nil {
			panic(errMissing) // a sentinel must not turn a panic into a mere NOT_FOUND
		}
		return request, err
	})
	for {
		var r Received[streamRequest]
		select {
		case r = <-requests:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		if r.Err != nil {
			return unlessEOF(r.Err)
		}
		ended := make(chan error)
		go func() {
			ended <- Recovered(stream.Context(), func() error {
				body := r.Message.GetPayload().GetBody()
				return stream.Send(&grpc_testing.StreamingOutputCallResponse{
					Payload: &grpc_testing.Payload{Body: body[2:]}})
			})
		}()
		if err := <-ended; err != nil {
			return err
		}
	}
}

func TestAPanicInAGoroutineOfAHandlerEndsItsCallOnly(t *testing.T) {
	for name, c := range map[string]struct {
		request *streamRequest
		logged  string
	}{
		"that receives": {&streamRequest{}, errMissing.Error()},
		"that works": {&streamRequest{Payload: payload(1)},
			"slice bounds out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			s := defaults()
			var log strings.Builder
			s.log = textLog(&log)
			r := s.startService(t, func(registrar grpc.ServiceRegistrar) {
				grpc_testing.RegisterTestServiceServer(registrar, &split{})
			})
			call := func(request *streamRequest) error {
				stream, err := r.stub.FullDuplexCall(testContext(t))
				if err != nil {
					return err
				}
				if err := stream.Send(request); err != nil {
					return err
				}
				defer func() { _ = stream.CloseSend() }() // It never fails.
				_, err = stream.Recv()
				return err
			}
			if st := status.Convert(call(c.request)); st.Code() != codes.Internal ||
				st.Message() != internalText {
				t.Errorf("got %v", st)
			}
			if err := call(&streamRequest{Payload: payload(2)}); err != nil {
				t.Errorf("the next call: %v", err)
			}
			eventually(t, "the call is counted", func() bool {
				return r.handled(t, "FullDuplexCall", "Internal") == 1
			})
			stop(t, r)
			if !strings.Contains(log.String(), c.logged) ||
				!strings.Contains(log.String(), "receive_test.go") {
				t.Errorf("the log has no panic with its stack: %s", &log)
			}
		})
	}
}
