package object

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// lateAnswer is a stream whose call is cancelled while its answer is being read, which takes until
// the call has returned.
type lateAnswer struct {
	grpc.ClientStream
	cancel   func()
	returned *atomic.Bool
}

func (s *lateAnswer) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	s.cancel()
	response := m.(*quartetv1.UploadObjectResponse)
	for object := response.GetObject(); !s.returned.Load(); {
		response.SetObject(object)
	}
	return nil
}

func TestAnAnswerIsNotUsedWhileItIsRead(t *testing.T) {
	_, address := startFake(t)
	tele := telemetry.Discard()
	ctx, cancel := context.WithCancel(t.Context())
	var returned atomic.Bool
	defer returned.Store(true)
	late := func(
		ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
		next grpc.Streamer, options ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		stream, err := next(ctx, desc, conn, method, options...)
		return &lateAnswer{stream, cancel, &returned}, err
	}
	var cfg rpc.ClientConfig
	if err := config.Load("TEST_", nil, config.Group{Into: &cfg}); err != nil {
		t.Fatal(err)
	}
	services := Service().Descriptors
	conn, err := rpc.NewClient(cfg, tele, address, services, grpc.WithChainStreamInterceptor(late))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := NewClient(conn, Options{Telemetry: tele})
	header := quartetv1.UploadHeader_builder{Name: "o", SizeBytes: new(uint64(4))}.Build()
	response, err := client.appendUpload(ctx, header, 0, bytes.NewReader([]byte("text")), nil)
	if response != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", response, err)
	}
}
