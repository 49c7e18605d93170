package cost

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/interop/grpc_testing"
)

// handlers do as little as possible, so that what is measured is the way to them and back.
type handlers struct {
	grpc_testing.UnimplementedTestServiceServer
}

// UnaryCall echoes.
func (handlers) UnaryCall(_ context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Payload: r.GetPayload()}, nil
}

// FullDuplexCall echoes each message.
func (handlers) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: request.GetPayload()}); err != nil {
			return err
		}
	}
}

// StreamingInputCall takes everything and says how many bytes that were.
func (handlers) StreamingInputCall(stream grpc_testing.TestService_StreamingInputCallServer) error {
	var size int32
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: size})
		}
		if err != nil {
			return err
		}
		size += int32(len(request.GetPayload().GetBody()))
	}
}

// StreamingOutputCall sends a chunk of each size that is asked for. Chunks of the same size are the
// same chunk.
func (handlers) StreamingOutputCall(
	request *grpc_testing.StreamingOutputCallRequest, stream grpc_testing.TestService_StreamingOutputCallServer,
) error {
	var chunk grpc_testing.StreamingOutputCallResponse
	for _, p := range request.GetResponseParameters() {
		if size := int(p.GetSize()); size != len(chunk.GetPayload().GetBody()) {
			chunk.Payload = payload(size)
		}
		if err := stream.Send(&chunk); err != nil {
			return err
		}
	}
	return nil
}
