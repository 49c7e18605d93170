package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/transfer"
)

// fake is a server that keeps everything in memory, and is healthy.
type fake struct {
	healthpb.UnimplementedHealthServer
	quartetv1.UnimplementedObjectServiceServer
	quartetv1.UnimplementedChannelServiceServer

	// badSum spoils the checksum of whole objects; hold lets uploads wait, after a signal on it, for a second one to be
	// taken.
	badSum bool
	hold   chan struct{}
	// stop ends the server as a crash does.
	stop func()

	mu       sync.Mutex
	objects  map[string]*quartetv1.Object
	bytes    map[string][]byte
	messages []*quartetv1.ChannelMessage
}

// startFake listens on address and returns the fake and where it is.
func startFake(t *testing.T, address string) (*fake, string) {
	t.Helper()
	lis, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	f := &fake{objects: map[string]*quartetv1.Object{}, bytes: map[string][]byte{}, stop: server.Stop}
	quartetv1.RegisterObjectServiceServer(server, f)
	quartetv1.RegisterChannelServiceServer(server, f)
	healthpb.RegisterHealthServer(server, f)
	go func() { _ = server.Serve(lis) }() // Until the test is over.
	t.Cleanup(server.Stop)
	return f, lis.Addr().String()
}

func (f *fake) Watch(_ *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	if err := stream.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func reason(code codes.Code, text, reason string) error {
	s, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Domain: "quartet", Reason: reason})
	if err != nil {
		return err
	}
	return s.Err()
}

func (f *fake) find(name string) (*quartetv1.Object, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects[name] == nil {
		return nil, nil, reason(codes.NotFound, "object not found", "OBJECT_NOT_FOUND")
	}
	return f.objects[name], f.bytes[name], nil
}

func (f *fake) keep(header *quartetv1.UploadHeader, data []byte) *quartetv1.Object {
	f.mu.Lock()
	defer f.mu.Unlock()
	crc := transfer.Checksum(data)
	if f.badSum {
		crc++
	}
	object := quartetv1.Object_builder{
		Name: header.GetName(), Generation: int64(len(f.objects) + 1), ContentType: header.GetContentType(),
		SizeBytes: uint64(len(data)), Crc32C: crc, CreateTime: &timestamppb.Timestamp{Seconds: 1_800_000_000},
	}.Build()
	f.objects[header.GetName()], f.bytes[header.GetName()] = object, data
	return object
}

func (f *fake) GetObject(_ context.Context, r *quartetv1.GetObjectRequest) (*quartetv1.GetObjectResponse, error) {
	object, _, err := f.find(r.GetName())
	return quartetv1.GetObjectResponse_builder{Object: object}.Build(), err
}

func (f *fake) ListObjects(_ context.Context, r *quartetv1.ListObjectsRequest) (*quartetv1.ListObjectsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	response := &quartetv1.ListObjectsResponse{}
	for _, name := range slices.Sorted(maps.Keys(f.objects)) {
		if name > r.GetPageToken() && strings.HasPrefix(name, r.GetPrefix()) {
			// One a page, so that pages matter.
			response.SetObjects([]*quartetv1.Object{f.objects[name]})
			response.SetNextPageToken(name)
			break
		}
	}
	return response, nil
}

func (f *fake) DeleteObject(_ context.Context, r *quartetv1.DeleteObjectRequest) (*quartetv1.DeleteObjectResponse, error) {
	object, _, err := f.find(r.GetName())
	if err != nil && !r.GetAllowMissing() {
		return nil, err
	}
	if r.GetGeneration() != 0 && object.GetGeneration() != r.GetGeneration() {
		return nil, reason(codes.Aborted, "object generation gone", "GENERATION_GONE")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, r.GetName())
	return &quartetv1.DeleteObjectResponse{}, nil
}

func (f *fake) GetUpload(context.Context, *quartetv1.GetUploadRequest) (*quartetv1.GetUploadResponse, error) {
	return nil, reason(codes.NotFound, "upload not found", "UPLOAD_NOT_FOUND")
}

func (f *fake) UploadObject(stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	var header *quartetv1.UploadHeader
	var data []byte
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if r.HasHeader() {
			header = r.GetHeader()
		}
		data = append(data, r.GetChunk().GetData()...)
	}
	if f.hold != nil {
		f.hold <- struct{}{}
		select {
		case f.hold <- struct{}{}:
		case <-stream.Context().Done():
		}
	}
	return stream.SendAndClose(quartetv1.UploadObjectResponse_builder{
		CommittedSizeBytes: uint64(len(data)), Object: f.keep(header, data),
	}.Build())
}

func (f *fake) DownloadObject(r *quartetv1.DownloadObjectRequest, stream grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
	object, data, err := f.find(r.GetName())
	if err != nil {
		return err
	}
	if err := stream.Send(quartetv1.DownloadObjectResponse_builder{Object: object}.Build()); err != nil {
		return err
	}
	return stream.Send(quartetv1.DownloadObjectResponse_builder{Chunk: quartetv1.DownloadChunk_builder{
		Data: data, Crc32C: transfer.Checksum(data),
	}.Build()}.Build())
}

// Exchange is a channel with one participant and what was said there before.
func (f *fake) Exchange(stream grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
	var join *quartetv1.Join
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var replies []*quartetv1.ExchangeResponse
		if r.HasJoin() {
			join = r.GetJoin()
			replies = f.enter(join)
		} else {
			replies = f.take(join.GetParticipant(), r.GetMessage())
		}
		for _, reply := range replies {
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
	}
}

func (f *fake) enter(join *quartetv1.Join) []*quartetv1.ExchangeResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	after := uint64(len(f.messages))
	if join.HasAfterSequence() {
		after = join.GetAfterSequence()
	}
	replies := []*quartetv1.ExchangeResponse{quartetv1.ExchangeResponse_builder{Joined: quartetv1.Joined_builder{
		LastSequence: uint64(len(f.messages)), AfterSequence: after,
	}.Build()}.Build()}
	for _, m := range f.messages[after:] {
		replies = append(replies, quartetv1.ExchangeResponse_builder{Message: m}.Build())
	}
	return replies
}

func (f *fake) take(participant string, m *quartetv1.SendMessage) []*quartetv1.ExchangeResponse {
	kept := f.say(participant, string(m.GetBody()))
	return []*quartetv1.ExchangeResponse{
		quartetv1.ExchangeResponse_builder{Message: kept}.Build(),
		quartetv1.ExchangeResponse_builder{Receipt: quartetv1.Receipt_builder{
			MessageId: m.GetMessageId(), Sequence: kept.GetSequence(),
		}.Build()}.Build(),
	}
}

func (f *fake) say(participant, body string) *quartetv1.ChannelMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := quartetv1.ChannelMessage_builder{
		Sequence: uint64(len(f.messages) + 1), PreviousSequence: uint64(len(f.messages)),
		Participant: participant, Body: []byte(body), CreateTime: &timestamppb.Timestamp{Seconds: 1_800_000_000},
	}.Build()
	f.messages = append(f.messages, m)
	return m
}
