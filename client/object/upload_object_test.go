package object

import (
	"context"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/crc32c"
)

// forgetful says that an upload is finished, and does not find its object.
type forgetful struct {
	quartetv1.UnimplementedObjectServiceServer
	finished *quartetv1.Object
}

func (f *forgetful) GetUpload(
	context.Context, *quartetv1.GetUploadRequest,
) (*quartetv1.GetUploadResponse, error) {
	return quartetv1.GetUploadResponse_builder{CommittedSizeBytes: f.finished.GetSizeBytes(),
		Object: f.finished}.Build(), nil
}

func (f *forgetful) GetObject(
	context.Context, *quartetv1.GetObjectRequest,
) (*quartetv1.GetObjectResponse, error) {
	return nil, status.Error(codes.Internal, "no answer")
}

// An object on S3 may be deleted before its sender has compared it, and is sent
// again then: what was read from a pipe has to be there still.
func TestWhatAnotherWriterFinishedIsKeptUntilItIsCompared(t *testing.T) {
	const content = "some bytes"
	f := &forgetful{finished: quartetv1.Object_builder{
		Name: "o", Generation: 1, SizeBytes: uint64(len(content)),
		Crc32C: crc32c.Checksum([]byte(content)),
	}.Build()}
	address, _ := clienttest.Serve(t, "",
		func(r grpc.ServiceRegistrar) { quartetv1.RegisterObjectServiceServer(r, f) })
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := NewClient(conn, Options{})
	for _, bytes := range []int{0, len(content) / 2, len(content)} { // Sent by this call.
		ctx, o := client.beginTransfer(clienttest.Deadline(t), client.metrics.uploads, "o")
		u := newUpload(client, o, struct{ io.Reader }{strings.NewReader(content)},
			UploadOptions{Continue: true})
		sent := make([]byte, bytes)
		if _, err := io.ReadFull(u.source, sent); err != nil {
			t.Fatal(err)
		}
		u.hash(0, sent, crc32c.Checksum(sent))
		if err := u.locate(ctx); status.Code(err) != codes.Internal {
			t.Fatalf("compared without an answer: %v", err)
		}
		if err := u.seek(0); err != nil {
			t.Errorf("after %d bytes it cannot be sent again: %v", bytes, err)
		}
	}
}
