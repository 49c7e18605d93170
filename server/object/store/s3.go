package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// s3Bucket is a bucket of an S3 service, which is durable and atomic by itself and which any number of processes share.
// The service must know conditional writes: If-None-Match, and If-Match to tell replicas apart at one name.
//
// The requests are the SDK's own and not those of gocloud's s3blob, which allocates twice the size of each part, asks
// for a key before it deletes it, and does not know If-Match.
type s3Bucket struct {
	client    *s3.Client
	name      string
	partSize  int64
	buffers   sync.Pool // of *[]byte, each up to a part long
	closeIdle func()
}

const (
	requestTimeout = 30 * time.Second
	// slowestRate is what is granted to the bytes of a request besides requestTimeout, per second.
	slowestRate = 1 << 20
)

var errSlow = fmt.Errorf("%w: no answer in time", ErrUnavailable)

// patience bounds one request with its repetitions, so that a service that has fallen silent is noticed.
func patience(ctx context.Context, size int) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, requestTimeout+time.Duration(size)*time.Second/slowestRate, errSlow)
}

func (b *s3Bucket) create(ctx context.Context, key string, data []byte) error {
	err := b.send(ctx, data, &s3.PutObjectInput{Key: &key, IfNoneMatch: aws.String("*")})
	if err == nil {
		return nil
	}
	found, readErr := b.get(ctx, key)
	return settle(data, err, found, readErr)
}

func (b *s3Bucket) put(ctx context.Context, key string, data []byte) error {
	return b.send(ctx, data, &s3.PutObjectInput{Key: &key})
}

func (b *s3Bucket) putVersion(ctx context.Context, key string, data []byte, version string) error {
	in := &s3.PutObjectInput{Key: &key, IfMatch: &version}
	if version == "" {
		in.IfMatch, in.IfNoneMatch = nil, aws.String("*")
	}
	err := b.send(ctx, data, in)
	if errors.Is(err, errNoKey) { // What had that version has gone.
		return fmt.Errorf("%w: %w", errChanged, err)
	}
	return err
}

// unsigned leaves the bytes out of the signature, which covers their CRC. To hash them for it takes more time than all
// else that is done with them here; and who may change what passes between this process and the service could change
// what is downloaded as well, which is what https is for.
var unsigned = s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)

// send adds to the request what all writes have in common. The service compares the bytes with a checksum before it
// keeps them.
func (b *s3Bucket) send(ctx context.Context, data []byte, in *s3.PutObjectInput) error {
	ctx, cancel := patience(ctx, len(data))
	defer cancel()
	in.Bucket, in.ContentType, in.Body = &b.name, aws.String(defaultContentType), bytes.NewReader(data)
	_, err := b.client.PutObject(ctx, in, unsigned)
	return explain(ctx, err)
}

func (b *s3Bucket) get(ctx context.Context, key string) ([]byte, error) {
	data, _, err := b.getVersion(ctx, key)
	return data, err
}

func (b *s3Bucket) getVersion(ctx context.Context, key string) (data []byte, version string, err error) {
	ctx, cancel := patience(ctx, 0)
	defer cancel()
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return nil, "", explain(ctx, err)
	}
	defer out.Body.Close()
	data, err = io.ReadAll(out.Body)
	return data, aws.ToString(out.ETag), explain(ctx, err)
}

// reader gives nothing of a range that begins behind the end, as the other engines do; the caller knows what to expect.
func (b *s3Bucket) reader(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	in := &s3.GetObjectInput{
		Bucket: &b.name, Key: &key, Range: aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)),
	}
	out, err := b.client.GetObject(ctx, in)
	if errorCode(err) == "InvalidRange" {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	if err != nil {
		return nil, explain(ctx, err)
	}
	return &s3Reader{ReadCloser: out.Body, ctx: ctx}, nil
}

type s3Reader struct {
	io.ReadCloser
	ctx context.Context
}

func (r *s3Reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = explain(r.ctx, err)
	}
	return n, err
}

func (b *s3Bucket) delete(ctx context.Context, key string) error {
	return b.remove(ctx, &s3.DeleteObjectInput{Key: &key})
}

func (b *s3Bucket) discard(ctx context.Context, key string) error { return b.delete(ctx, key) }

func (b *s3Bucket) deleteVersion(ctx context.Context, key, version string) error {
	return b.remove(ctx, &s3.DeleteObjectInput{Key: &key, IfMatch: &version})
}

func (b *s3Bucket) remove(ctx context.Context, in *s3.DeleteObjectInput) error {
	ctx, cancel := patience(ctx, 0)
	defer cancel()
	in.Bucket = &b.name
	_, err := b.client.DeleteObject(ctx, in)
	if err = explain(ctx, err); errors.Is(err, errNoKey) {
		return nil
	}
	return err
}

// list needs no continuation tokens: each page begins after a key.
func (b *s3Bucket) list(ctx context.Context, prefix, after string, limit int) ([]entry, bool, error) {
	ctx, cancel := patience(ctx, 0)
	defer cancel()
	in := &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix, MaxKeys: aws.Int32(int32(min(limit, sweepPage)))}
	if after != "" {
		in.StartAfter = &after
	}
	out, err := b.client.ListObjectsV2(ctx, in)
	if err != nil {
		return nil, false, explain(ctx, err)
	}
	entries := make([]entry, 0, len(out.Contents))
	for _, found := range out.Contents {
		entries = append(entries, entry{aws.ToString(found.Key), aws.ToInt64(found.Size)})
	}
	return entries, aws.ToBool(out.IsTruncated), nil
}

func (b *s3Bucket) close() error {
	b.closeIdle()
	return nil
}

func (b *s3Bucket) writer(ctx context.Context, key string, size int64) (blobWriter, error) {
	buffer, _ := b.buffers.Get().(*[]byte)
	if buffer == nil {
		buffer = new([]byte)
	}
	if int64(cap(*buffer)) < size {
		*buffer = make([]byte, 0, size)
	}
	return &s3Writer{bucket: b, ctx: ctx, key: key, buffer: buffer}, nil
}

// s3Writer holds the bytes until its commit, because S3 wants to know how many there are, and because a request
// that broke can then be repeated. So an upload under way takes at most the memory of one part.
type s3Writer struct {
	bucket *s3Bucket
	ctx    context.Context
	key    string
	buffer *[]byte
}

// write makes room by doubling where it could not be told how much there will be, and never for more than a part.
func (w *s3Writer) write(pieces [][]byte) error {
	data := *w.buffer
	for _, piece := range pieces {
		if need := len(data) + len(piece); need > cap(data) {
			room := max(need, min(2*cap(data), int(w.bucket.partSize)))
			data = append(make([]byte, 0, room), data...)
		}
		data = append(data, piece...)
	}
	*w.buffer = data
	return nil
}

func (w *s3Writer) commit() error {
	defer w.abort() // The SDK does not touch the bytes once it has returned.
	return w.bucket.put(w.ctx, w.key, *w.buffer)
}

func (w *s3Writer) abort() {
	*w.buffer = (*w.buffer)[:0]
	w.bucket.buffers.Put(w.buffer)
	w.buffer = nil
}
