package rpc

import (
	"context"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// translated is a status for the client that still wraps its cause, which
// telemetry logs.
type translated struct {
	status *status.Status
	cause  error
}

func (e *translated) Error() string              { return e.status.Err().Error() }
func (e *translated) GRPCStatus() *status.Status { return e.status }
func (e *translated) Unwrap() error              { return e.cause }

// translate applies the table, and repeats a RetryInfo where grpc-go reads it.
func (t ErrorTable) translate(err error, setTrailer func(metadata.MD)) error {
	if err == nil {
		return nil
	}
	st := t.Status(err)
	for _, detail := range st.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			setTrailer(pushback(retry))
		}
	}
	if status.Convert(err).Message() == st.Message() || err.Error() == st.Message() {
		return st.Err() // nothing is hidden
	}
	return &translated{st, err}
}

// pushback is the trailer of gRPC's retry design (A6), in milliseconds.
func pushback(retry *errdetails.RetryInfo) metadata.MD {
	ms := retry.GetRetryDelay().AsDuration().Milliseconds()
	return metadata.Pairs("grpc-retry-pushback-ms", strconv.FormatInt(max(ms, 0), 10))
}

func (t ErrorTable) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	reply, err := handler(ctx, req)
	return reply, t.translate(err, func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) })
}

func (t ErrorTable) stream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return t.translate(handler(srv, stream), stream.SetTrailer)
}
