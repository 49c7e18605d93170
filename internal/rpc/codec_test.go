package rpc

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func TestFieldsThatTheServerDoesNotKnowAreNotKept(t *testing.T) {
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 1000, protowire.BytesType),
		make([]byte, 1<<10))
	seen := make(chan proto.Message, 1)
	r := defaults().startService(t, func(registrar grpc.ServiceRegistrar) {
		grpc_testing.RegisterTestServiceServer(registrar, &looking{seen: seen})
	})
	request := &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte("known")}}
	request.ProtoReflect().SetUnknown(unknown)
	request.Payload.ProtoReflect().SetUnknown(unknown)
	if _, err := r.stub.UnaryCall(testContext(t), request); err != nil {
		t.Fatal(err)
	}
	want := &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte("known")}}
	if got := <-seen; !proto.Equal(got, want) { // which compares unknown fields too
		t.Errorf("the handler got %d bytes, want %d", proto.Size(got), proto.Size(want))
	}
}

type looking struct {
	grpc_testing.UnimplementedTestServiceServer
	seen chan proto.Message
}

func (l *looking) UnaryCall(
	_ context.Context, request *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	l.seen <- request
	return &grpc_testing.SimpleResponse{}, nil
}
