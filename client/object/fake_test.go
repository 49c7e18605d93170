package object

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/crc32c"
)

// fake is a server that keeps everything in memory, and answers rightly unless a field says
// otherwise.
type fake struct {
	quartetv1.UnimplementedObjectServiceServer

	twistObject func(*quartetv1.Object) // in GetObject and UploadObject
	twistBytes  func([]byte) []byte     // in DownloadObject
	// badSum spoils the checksum of whole objects; hold lets uploads wait, after a signal on it,
	// for a second one to be taken.
	badSum bool
	hold   chan struct{}

	mu      sync.Mutex
	objects map[string]*quartetv1.Object
	bytes   map[string][]byte
	last    int64
}

// startFake listens on a port of its own and returns the fake and where it is.
func startFake(t *testing.T) (*fake, string) {
	t.Helper()
	f := &fake{objects: map[string]*quartetv1.Object{}, bytes: map[string][]byte{}}
	address, _ := clienttest.Serve(t, "",
		func(r grpc.ServiceRegistrar) { quartetv1.RegisterObjectServiceServer(r, f) })
	return f, address
}

func reason(code codes.Code, text, reason string) error {
	s, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Domain: "test", Reason: reason})
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
	crc := crc32c.Checksum(data)
	if f.badSum {
		crc++
	}
	f.last++
	object := quartetv1.Object_builder{
		Name: header.GetName(), Generation: f.last, ContentType: header.GetContentType(),
		SizeBytes: uint64(len(data)), Crc32C: crc,
		CreateTime: &timestamppb.Timestamp{Seconds: 1_800_000_000},
	}.Build()
	f.objects[header.GetName()], f.bytes[header.GetName()] = object, data
	return object
}

func (f *fake) twisted(object *quartetv1.Object) *quartetv1.Object {
	object = proto.CloneOf(object)
	if f.twistObject != nil {
		f.twistObject(object)
	}
	return object
}

func (f *fake) GetObject(
	_ context.Context, r *quartetv1.GetObjectRequest,
) (*quartetv1.GetObjectResponse, error) {
	object, _, err := f.find(r.GetName())
	if err != nil {
		return nil, err
	}
	return quartetv1.GetObjectResponse_builder{Object: f.twisted(object)}.Build(), nil
}

func (f *fake) ListObjects(
	_ context.Context, r *quartetv1.ListObjectsRequest,
) (*quartetv1.ListObjectsResponse, error) {
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

func (f *fake) DeleteObject(
	_ context.Context, r *quartetv1.DeleteObjectRequest,
) (*quartetv1.DeleteObjectResponse, error) {
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

func (f *fake) GetUpload(
	context.Context, *quartetv1.GetUploadRequest,
) (*quartetv1.GetUploadResponse, error) {
	return nil, reason(codes.NotFound, "upload not found", "UPLOAD_NOT_FOUND")
}

func (f *fake) UploadObject(
	stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse],
) error {
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
		CommittedSizeBytes: uint64(len(data)), Object: f.twisted(f.keep(header, data)),
	}.Build())
}

func (f *fake) DownloadObject(
	r *quartetv1.DownloadObjectRequest,
	stream grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse],
) error {
	object, data, err := f.find(r.GetName())
	if err != nil {
		return err
	}
	if f.twistBytes != nil {
		// The checksums are those of what is sent: only a client that knows the content can tell.
		data = f.twistBytes(append([]byte(nil), data...))
		object = proto.CloneOf(object)
		object.SetCrc32C(crc32c.Checksum(data))
		object.SetSizeBytes(uint64(len(data)))
	}
	if err := stream.Send(quartetv1.DownloadObjectResponse_builder{Object: object}.Build()); err != nil {
		return err
	}
	const chunk = 1000
	for at := int(r.GetReadOffset()); at < len(data); at += chunk {
		piece := data[at:min(at+chunk, len(data))]
		err := stream.Send(quartetv1.DownloadObjectResponse_builder{Chunk: quartetv1.DownloadChunk_builder{
			Offset: uint64(at), Data: piece, Crc32C: crc32c.Checksum(piece),
		}.Build()}.Build())
		if err != nil {
			return err
		}
	}
	return nil
}
