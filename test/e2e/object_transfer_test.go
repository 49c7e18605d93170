package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// newCaller makes a client as programs do, with a connection of its own, until the end of the test.
func newCaller(t *testing.T, address string) *object.Client {
	t.Helper()
	cfg, err := config.Defaults[struct {
		RPC rpc.ClientConfig `envPrefix:"RPC_"`
	}]()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rpc.NewClient(cfg.RPC, telemetry.Discard(), address, []protoreflect.ServiceDescriptor{
		quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return object.NewClient(conn, object.Options{})
}

// transfer is content on its way to or from the servers: the io.ReadSeeker of an upload, or the
// io.Writer of a download.
type transfer struct {
	ctx     context.Context // ends pauses in methods that take none
	client  *object.Client
	name    string
	content bulk
	// pace is the most bytes per second, 0 for as many as there can be.
	pace int64

	offset, reached int64
	// moved is how much has been read or written so far, for others to see.
	moved atomic.Int64
	// twice is how much an upload has read again, which is what resumes cost.
	twice   int64
	resumes int
	took    time.Duration
}

// Read reads the content for an upload.
func (t *transfer) Read(p []byte) (int, error) {
	if t.offset == t.content.size {
		return 0, io.EOF
	}
	n := copy(p, t.content.from(t.offset))
	t.twice += max(0, min(int64(n), t.reached-t.offset))
	return n, t.advance(n)
}

// Seek goes to where an upload is resumed.
func (t *transfer) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		t.offset = offset
	case io.SeekCurrent:
		t.offset += offset
	default:
		return 0, errors.ErrUnsupported
	}
	return t.offset, nil
}

// Write takes what a download has brought, if it is the content.
func (t *transfer) Write(p []byte) (int, error) {
	if err := t.content.check(t.offset, p); err != nil {
		return 0, err
	}
	return len(p), t.advance(len(p))
}

// advance goes on behind n bytes, once as much time has passed as they take.
func (t *transfer) advance(n int) error {
	t.offset += int64(n)
	t.reached = max(t.reached, t.offset)
	t.moved.Add(int64(n))
	if t.pace == 0 {
		return nil
	}
	select {
	case <-time.After(time.Duration(n) * time.Second / time.Duration(t.pace)):
		return nil
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
}

func (t *transfer) progress(p object.Progress) { t.resumes = p.Resumes }

// upload sends the content, and wants the servers to have understood the same.
func (t *transfer) upload() error {
	defer t.measure()()
	stored, err := t.client.Upload(
		t.ctx, t.name, t, object.UploadOptions{Size: t.content.size, Progress: t.progress},
	)
	if err != nil {
		return err
	}
	return t.want(stored)
}

// download fetches the object, and wants the content.
func (t *transfer) download() error {
	defer t.measure()()
	stored, err := t.client.Download(t.ctx, t.name, t, object.DownloadOptions{Progress: t.progress})
	if err != nil {
		return err
	}
	if t.offset != t.content.size {
		return fmt.Errorf("%s: got %d bytes of %d", t.name, t.offset, t.content.size)
	}
	return t.want(stored)
}

func (t *transfer) want(stored *quartetv1.Object) error {
	size, sum := int64(stored.GetSizeBytes()), t.content.crc32c()
	if size != t.content.size || stored.GetCrc32C() != sum {
		return fmt.Errorf("%s: the servers say %d bytes with CRC-32C %08x, expected %d with %08x",
			t.name, size, stored.GetCrc32C(), t.content.size, sum)
	}
	return nil
}

func (t *transfer) measure() (done func()) {
	began := time.Now()
	return func() { t.took = time.Since(began) }
}

// mibPerSecond is the rate of a transfer that has ended.
func (t *transfer) mibPerSecond() float64 {
	return float64(t.content.size) / (1 << 20) / t.took.Seconds()
}
