package rpc

import (
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestARequestThatCouldNotBeSentIsUnavailable(t *testing.T) {
	other := status.Error(codes.NotFound, "x")
	for failed, want := range map[error]codes.Code{io.EOF: codes.Unavailable, other: codes.NotFound,
		nil: codes.OK} {
		invoker := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
			return failed
		}
		if err := unsent(t.Context(), "/s/m", nil, nil, nil, invoker); status.Code(err) != want {
			t.Errorf("%v became %v", failed, err)
		}
	}
}
