// Package s3 keeps objects in a bucket of an S3 service, which any number of processes share:
//
//	objects/<encoded name>  an object: its content, and the trailer that engine.Trailer makes, so
//	                        that no two have one ETag
//	uploads/<id>            the record of an upload, which leads to the multipart upload of S3
//
// An upload is a multipart upload of S3, which is consumed once, however often and late its
// completion arrives. An object that is smaller than a part is one PutObject, on condition that the
// name still has what its record says.
//
// The service must know conditional requests (If-Match, If-None-Match) and CRC-32C of parts.
package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/semaphore"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
)

const (
	// What keys begin with, and the one that Ping writes.
	objectsPrefix = "objects/"
	uploadsPrefix = "uploads/"
	checkKey      = "check"
	// MaxParts is how many parts S3 allows in an upload; the last one of ours has the trailer.
	MaxParts = 10_000
	// tailBytes is as much as the longest trailer.
	tailBytes = engine.FooterBytes + MaxParts*engine.SumBytes
	// requestTimeout is how long one request may take, with the SDK's repetitions, besides the time
	// for its bytes.
	requestTimeout = 30 * time.Second
	// minRate is what is granted to the bytes of a request besides requestTimeout, per second.
	minRate = 1 << 20
	// maxChanges bounds how often something is looked at again that another process has changed
	// meanwhile.
	maxChanges = 10
	// pageKeys is the most keys that S3 lists at once.
	pageKeys = 1000
)

// Options are what an S3 can be told.
type Options struct {
	// PartBytes is how much of an upload is committed at a time. AWS wants at least 5 MiB.
	PartBytes int64
	// SpareParts is how many parts all uploads together may have in memory besides one each. It
	// makes some of them faster.
	SpareParts int
	// Quota counts what is stored, approximately: objects by Count, and in between what this process
	// stores and deletes, parts of unfinished uploads among it.
	Quota *engine.Quota
	// Proxy has the service reached through the proxy that HTTPS_PROXY or HTTP_PROXY names, unless
	// NO_PROXY excepts it.
	Proxy bool
	// Log takes what no caller can be told.
	Log *slog.Logger
}

// S3 is an engine.Engine.
type S3 struct {
	Options
	client *awss3.Client
	bucket *string
	// buffers are those for parts and blocks, as *[]byte, to be used again.
	buffers sync.Pool
	// spares are the parts that uploads may have in memory besides one each.
	spares      *semaphore.Weighted
	generations engine.Generations
	// idle is how long a download waits for S3 to send anything; tests make it shorter.
	idle time.Duration
}

var _ engine.Engine = (*S3)(nil)

// Open opens a bucket at s3://name, with the parameters region, endpoint and use_path_style, and
// with credentials and all else from the environment or files as the AWS SDK finds it, such as
// AWS_PROFILE or AWS_USE_FIPS_ENDPOINT. The bucket must exist. One that cannot be used is an error
// within seconds, and an ErrUnavailable if it cannot be reached.
func Open(ctx context.Context, rawURL string, opts Options) (*S3, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openTimeout, errSlow)
	defer cancel()
	l, err := parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	client, err := l.connect(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", l, err)
	}
	s := &S3{
		Options: opts, client: client, bucket: &l.bucket,
		spares: semaphore.NewWeighted(int64(opts.SpareParts)), idle: requestTimeout,
	}
	// The cheapest request that shows whether the bucket is there and may be read.
	if _, _, err := s.list(ctx, uploadsPrefix, "", 1); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", l, err), s.Close())
	}
	return s, nil
}

// buffer returns an empty one, which may have room for a part already.
func (s *S3) buffer() *[]byte {
	if b, ok := s.buffers.Get().(*[]byte); ok {
		*b = (*b)[:0]
		return b
	}
	return new([]byte)
}

func objectKey(name string) string { return objectsPrefix + engine.EncodeName(name) }
func uploadKey(id string) string   { return uploadsPrefix + id }

// requestContext bounds one request with its repetitions, so that a service that does not answer is
// noticed. size is how many bytes it sends.
func requestContext(ctx context.Context, size int) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, requestTimeout+time.Duration(size)*time.Second/minRate,
		errSlow)
}

// unsigned leaves the bytes out of the signature, which covers their CRC. To hash them for it takes
// more time than all else that is done with them here; and what may change what passes between this
// process and the service could change what is downloaded as well, which is what https is for.
var unsigned = awss3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)

// encodeSum is a checksum as S3 has it: big-endian, in base64.
func encodeSum(sum uint32) *string {
	return aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum)))
}

// decodeSum is the inverse of encodeSum. ok is false if the text is no checksum of 4 bytes.
func decodeSum(text *string) (sum uint32, ok bool) {
	data, err := base64.StdEncoding.DecodeString(aws.ToString(text))
	if err != nil || len(data) != engine.SumBytes {
		return 0, false
	}
	return binary.BigEndian.Uint32(data), true
}

// absent is the tag of a key that is not there. Tags are ETags: S3 gives each content of a key one.
const absent = ""

// put writes a key if it has the tag, absent for one that must not be there, and returns its new
// tag. It fails with errChanged if another process was faster.
func (s *S3) put(
	ctx context.Context, key string, data []byte, contentType, tag string,
) (string, error) {
	ctx, cancel := requestContext(ctx, len(data))
	defer cancel()
	in := &awss3.PutObjectInput{
		Bucket: s.bucket, Key: &key, Body: bytes.NewReader(data), ContentType: &contentType,
		// S3 compares it with what has arrived, and refuses what was damaged on the way.
		ChecksumCRC32C: encodeSum(crc32c.Checksum(data)),
	}
	// So two processes cannot both write a key that neither has seen.
	if tag == absent {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &tag
	}
	out, err := s.client.PutObject(ctx, in, unsigned)
	if err = explain(ctx, err); err != nil {
		if errors.Is(err, errNoKey) { // What had that tag has gone.
			err = fmt.Errorf("%w: %w", errChanged, err)
		}
		return absent, err
	}
	return aws.ToString(out.ETag), nil
}

// found is what was read of a key.
type found struct {
	data []byte
	tag  string
	// size is that of the whole key, also where data is a range of it.
	size     int64
	modified time.Time
}

// get reads a key, or a range of it if byteRange is not empty. It fails with errNoKey if there is
// no key.
func (s *S3) get(ctx context.Context, key, byteRange string) (found, error) {
	ctx, cancel := requestContext(ctx, 0)
	defer cancel()
	out, err := s.open(ctx, key, byteRange, absent)
	if err != nil {
		return found{}, err
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	f := found{data: data, tag: aws.ToString(out.ETag), size: int64(len(data)),
		modified: aws.ToTime(out.LastModified)}
	if _, all, ranged := strings.Cut(aws.ToString(out.ContentRange), "/"); ranged {
		f.size, _ = strconv.ParseInt(all, 10, 64)
	}
	return f, explain(ctx, err)
}

// open is get without reading the answer, which the caller has to close. It fails with errChanged
// if a tag is given that the key does not have.
func (s *S3) open(ctx context.Context, key, byteRange, tag string) (*awss3.GetObjectOutput, error) {
	in := &awss3.GetObjectInput{Bucket: s.bucket, Key: &key}
	if byteRange != "" {
		in.Range = aws.String("bytes=" + byteRange)
	}
	if tag != absent {
		in.IfMatch = &tag
	}
	out, err := s.client.GetObject(ctx, in)
	return out, explain(ctx, err)
}

// remove deletes a key if it has the tag. One that has gone is no error, one that has another tag
// errChanged.
func (s *S3) remove(ctx context.Context, key, tag string) error {
	ctx, cancel := requestContext(ctx, 0)
	defer cancel()
	_, err := s.client.DeleteObject(ctx, &awss3.DeleteObjectInput{
		Bucket: s.bucket, Key: &key, IfMatch: &tag,
	})
	if err = explain(ctx, err); errors.Is(err, errNoKey) {
		return nil
	}
	return err
}

// list returns at most limit keys with a prefix that come after one, in their order, and whether
// there are more. It needs no continuation tokens, so that any process can ask for the next page.
func (s *S3) list(
	ctx context.Context, prefix, after string, limit int,
) ([]types.Object, bool, error) {
	ctx, cancel := requestContext(ctx, 0)
	defer cancel()
	in := &awss3.ListObjectsV2Input{
		Bucket: s.bucket, Prefix: &prefix, MaxKeys: aws.Int32(int32(min(limit, pageKeys))),
	}
	if after != "" {
		in.StartAfter = &after
	}
	out, err := s.client.ListObjectsV2(ctx, in)
	if err != nil {
		return nil, false, explain(ctx, err)
	}
	return out.Contents, aws.ToBool(out.IsTruncated), nil
}

// each calls do for all keys with a prefix, a page at a time, until do fails.
func (s *S3) each(ctx context.Context, prefix string, do func(types.Object) error) error {
	for after, more := "", true; more; {
		var page []types.Object
		var err error
		if page, more, err = s.list(ctx, prefix, after, pageKeys); err != nil {
			return err
		}
		for _, o := range page {
			if err := do(o); err != nil {
				return err
			}
			after = aws.ToString(o.Key)
		}
		more = more && len(page) > 0
	}
	return nil
}

// stat reads so many of the last bytes of an object, which have at least its footer. With an
// ErrCorrupt it returns what it has read as well, so that a damaged object can be deleted.
func (s *S3) stat(ctx context.Context, name string, bytes int) (engine.Footer, found, error) {
	f, err := s.get(ctx, objectKey(name), fmt.Sprintf("-%d", bytes))
	switch {
	case errors.Is(err, errNoKey):
		return engine.Footer{}, f, engine.ErrNotFound
	case errorCode(err) == "InvalidRange": // It is empty, which none of ours is.
		f, err = s.get(ctx, objectKey(name), "")
	}
	if err != nil {
		return engine.Footer{}, f, err
	}
	footer, err := engine.ParseFooter(f.data[max(0, len(f.data)-engine.FooterBytes):], name, f.size)
	return footer, f, err
}

// Stat implements engine.Engine, by one request.
func (s *S3) Stat(ctx context.Context, name string) (engine.Object, error) {
	footer, _, err := s.stat(ctx, name, engine.FooterBytes)
	return footer.Object, err
}

// Delete implements engine.Engine by two requests. If the object is replaced between them, and any
// generation was to be deleted, the call counts as one that came just before the replacement.
func (s *S3) Delete(ctx context.Context, name string, generation int64) error {
	footer, f, err := s.stat(ctx, name, engine.FooterBytes)
	switch {
	case errors.Is(err, engine.ErrCorrupt) && generation == 0:
	case err != nil:
		return err
	case generation != 0 && generation != footer.Generation:
		return engine.ErrGenerationGone
	}
	err = s.remove(ctx, objectKey(name), f.tag)
	switch {
	case errors.Is(err, errChanged) && generation != 0:
		return engine.ErrGenerationGone
	case errors.Is(err, errChanged):
		return nil
	case err == nil:
		s.Quota.Give(f.size + engine.FileOverhead)
	}
	return err
}

// List implements engine.Engine, by one request for each page.
func (s *S3) List(
	ctx context.Context, prefix, after string, limit int,
) (objects []engine.Object, more bool, err error) {
	start := keyBefore(prefix)
	if after != "" {
		start = max(start, objectKey(after))
	}
	// A page may have only keys that are no objects: an empty page would look like the end of the
	// list.
	for more = true; more && len(objects) == 0; {
		var page []types.Object
		if page, more, err = s.list(ctx, objectsPrefix, start, limit); err != nil {
			return nil, false, err
		}
		more = more && len(page) > 0
		for _, o := range page {
			start = aws.ToString(o.Key)
			name, err := engine.DecodeName(strings.TrimPrefix(start, objectsPrefix))
			switch {
			case err != nil:
				s.Log.WarnContext(ctx, "the bucket has a key that is not an object", "key", start)
			// Keys are in the order of names, so that all with the prefix were before this one.
			case !strings.HasPrefix(name, prefix):
				return objects, false, nil
			default:
				objects = append(objects, engine.Object{
					Name: name, Size: contentSize(o), CreateTime: aws.ToTime(o.LastModified).UTC(),
				})
			}
		}
	}
	return objects, more, nil
}

// keyBefore returns a key that is less than that of every name with the prefix, and not less than
// that of any smaller name: where a list of the prefix begins. The prefix itself cannot be given to
// S3, because five bits of a name make a character of its key, so that the last character for the
// prefix also depends on what follows it.
func keyBefore(prefix string) string {
	if prefix == "" {
		return ""
	}
	key := objectKey(prefix)
	end := len(key) - 1
	return key[:end] + string(key[end]-1) + "~"
}

// contentSize is the size of the content of a stored object. The table of an object has a checksum
// for each of its parts, and the ETag of one that was uploaded in parts tells how many those are,
// after a dash.
func contentSize(o types.Object) int64 {
	sums := int64(1)
	if _, parts, ok := strings.Cut(strings.Trim(aws.ToString(o.ETag), `"`), "-"); ok {
		sums, _ = strconv.ParseInt(parts, 10, 64)
	}
	return max(0, aws.ToInt64(o.Size)-sums*engine.SumBytes-engine.FooterBytes)
}

// Count implements engine.Engine by a request for every 1000 objects. Unfinished uploads are not in
// it, also those that this process had counted: how large they are takes a request for each.
func (s *S3) Count(ctx context.Context) error {
	var held int64
	err := s.each(ctx, objectsPrefix, func(o types.Object) error {
		held += aws.ToInt64(o.Size) + engine.FileOverhead
		return nil
	})
	if err == nil {
		s.Quota.Set(held)
	}
	return err
}

// Ping implements engine.Engine by writing a small key. A full bucket is no error: downloads and
// deletions go on.
func (s *S3) Ping(ctx context.Context) error {
	ctx, cancel := requestContext(ctx, 0)
	defer cancel()
	in := &awss3.PutObjectInput{
		Bucket: s.bucket, Key: aws.String(checkKey), Body: strings.NewReader("ok"),
	}
	_, err := s.client.PutObject(ctx, in, unsigned)
	if err = explain(ctx, err); errors.Is(err, engine.ErrStoreFull) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check the bucket by writing: %w", err)
	}
	return nil
}

// UploadBytes implements engine.Engine. An upload holds a whole part: S3 wants to know the size of
// a part before its bytes, and a request that broke can be repeated.
func (s *S3) UploadBytes() int64 { return s.PartBytes + tailBytes }

// Close implements engine.Engine. There is nothing to release but connections.
func (s *S3) Close() error {
	if c, ok := s.client.Options().HTTPClient.(*http.Client); ok {
		c.CloseIdleConnections()
	}
	return nil
}

// record leads from the id of an upload to all there is of it. It is written only on condition that
// it is still as it was read, so that what one process has decided the others find.
type record struct {
	engine.Header
	// These are the object's, and the size of its parts, from the stream that began the upload.
	Generation int64     `json:"generation"`
	CreateTime time.Time `json:"create_time"`
	PartBytes  int64     `json:"part_bytes"`
	// S3Upload is the multipart upload of S3; empty if the object is smaller than a part.
	S3Upload string `json:"s3_upload,omitempty"`
	// Object is what the upload makes, once that is decided.
	Object *engine.Object `json:"object,omitempty"`
	// Before is the tag that the name had when the object was decided. While the name still has that,
	// the object is not there. A small object takes the place of just that, or of nothing.
	Before string `json:"before,omitempty"`
	// Hash is the state of the SHA-256 over the first Hashed bytes, if the sender will name it: parts
	// cannot be read before they are an object, so that another process could not compute it.
	Hash   []byte `json:"hash,omitempty"`
	Hashed int64  `json:"hashed,omitempty"`
}

// readRecord reads the record of an upload. It returns errNoKey if there is none, and an ErrCorrupt
// if it does not make sense.
func (s *S3) readRecord(ctx context.Context, id string) (r record, f found, err error) {
	// The tag in f is that of the record, for a later write on condition.
	if f, err = s.get(ctx, uploadKey(id), ""); err != nil {
		return r, f, err
	}
	err = json.Unmarshal(f.data, &r)
	if err == nil && (r.UploadID != id || r.PartBytes <= 0 || r.S3Upload == "" && r.Object == nil) {
		err = errors.New("it leads to nothing")
	}
	if err != nil {
		return r, f, fmt.Errorf("%w: the record of upload %s: %w", engine.ErrCorrupt, id, err)
	}
	return r, f, nil
}

// writeRecord writes a record in place of the one with the tag, and returns its new tag, or
// errChanged.
func (s *S3) writeRecord(ctx context.Context, r record, tag string) (string, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return absent, err
	}
	return s.put(ctx, uploadKey(r.UploadID), data, "application/json", tag)
}

// written returns the tag of a record that has the very bytes that were to be written: then an
// attempt to write it succeeded whose answer was lost, and the next one was refused for that.
// Otherwise it fails with errChanged. Two processes that write the same bytes are at the same point
// of the same upload, and have sent the same parts.
func (s *S3) written(ctx context.Context, r record) (string, error) {
	want, err := json.Marshal(r)
	if err != nil {
		return absent, err
	}
	f, err := s.get(ctx, uploadKey(r.UploadID), "")
	if errors.Is(err, errNoKey) || err == nil && !bytes.Equal(f.data, want) {
		return absent, errChanged
	}
	return f.tag, err
}

// part is a part that S3 has.
type part struct {
	tag  string
	sum  uint32
	size int64
}

// progress asks S3 how far an upload is, and returns its full parts. A multipart upload that is
// gone was completed, if the name has the object or something that came after it. Otherwise there
// is no upload: it was aborted, here or by a rule of the bucket, or the service failed, or is still
// at work, while it put the parts together.
func (s *S3) progress(ctx context.Context, r record) (engine.State, []part, error) {
	if r.S3Upload == "" {
		state, _, err := s.published(ctx, r)
		return state, nil, err
	}
	parts, _, err := s.parts(ctx, objectKey(r.Name), r.S3Upload)
	switch {
	case errors.Is(err, errNoUpload) && r.Object != nil:
		state, _, err := s.published(ctx, r)
		if err == nil && state.Object == nil {
			err = engine.ErrUploadNotFound
		}
		return state, nil, err
	case errors.Is(err, errNoUpload):
		return engine.State{}, nil, engine.ErrUploadNotFound
	case err != nil:
		return engine.State{}, nil, err
	}
	full := int64(0)
	for full < int64(len(parts)) && parts[full].size == r.PartBytes {
		full++
	}
	// After the full parts comes one with the trailer, which may be as large.
	if r.Object != nil {
		full = min(full, r.Object.Size/r.PartBytes)
	}
	// A part that the state of the SHA-256 does not cover yet has to be sent again.
	if r.HashSHA256 {
		full = min(full, r.Hashed/r.PartBytes)
	}
	return engine.State{Committed: full * r.PartBytes}, parts[:full], nil
}

// published tells whether the object that the record has decided was put in its place, by what the
// name has, and returns the tag of that: this upload's object, then it is finished; what was there
// before it, or nothing, then it is still to be put there; anything else has come after the object,
// then it is finished as well.
func (s *S3) published(ctx context.Context, r record) (engine.State, string, error) {
	footer, f, err := s.stat(ctx, r.Name, engine.FooterBytes)
	switch {
	case errors.Is(err, engine.ErrNotFound), f.tag != absent && f.tag == r.Before:
		return engine.State{}, f.tag, nil
	case err == nil && footer.UploadID == r.UploadID:
		return engine.State{Committed: footer.Size, Object: &footer.Object}, f.tag, nil
	case err == nil, errors.Is(err, engine.ErrCorrupt):
		return engine.State{Committed: r.Object.Size, Object: r.Object}, f.tag, nil
	}
	return engine.State{}, absent, err
}

// parts returns the parts of a multipart upload, from the first up to the first one that is
// missing, and when the last part arrived.
func (s *S3) parts(
	ctx context.Context, key, upload string,
) (parts []part, last time.Time, err error) {
	ctx, cancel := requestContext(ctx, 0)
	defer cancel()
	in := &awss3.ListPartsInput{Bucket: s.bucket, Key: &key, UploadId: &upload}
	for {
		out, err := s.client.ListParts(ctx, in)
		if err != nil {
			return nil, last, explain(ctx, err)
		}
		for _, p := range out.Parts {
			if at := aws.ToTime(p.LastModified); at.After(last) {
				last = at
			}
			sum, ok := decodeSum(p.ChecksumCRC32C)
			if int(aws.ToInt32(p.PartNumber)) == len(parts)+1 && ok {
				parts = append(parts, part{aws.ToString(p.ETag), sum, aws.ToInt64(p.Size)})
			}
		}
		if !aws.ToBool(out.IsTruncated) || len(out.Parts) == 0 {
			return parts, last, nil
		}
		in.PartNumberMarker = out.NextPartNumberMarker
	}
}

// abort removes a multipart upload with its parts; one that is gone is no error.
func (s *S3) abort(ctx context.Context, key, upload string) error {
	ctx, cancel := requestContext(ctx, 0)
	defer cancel()
	_, err := s.client.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{
		Bucket: s.bucket, Key: &key, UploadId: &upload,
	})
	if err = explain(ctx, err); errors.Is(err, errNoUpload) {
		return nil
	}
	return err
}

// lookup finds an upload, its record and its tag, and how far it is. It fails with an
// ErrUploadNotFound if there is no record, with the tag absent; or if there is one whose multipart
// upload S3 has aborted, with its record and tag.
func (s *S3) lookup(
	ctx context.Context, id string,
) (r record, tag string, state engine.State, parts []part, err error) {
	for range maxChanges {
		var f found
		if r, f, err = s.readRecord(ctx, id); errors.Is(err, errNoKey) {
			return r, absent, state, nil, engine.ErrUploadNotFound
		}
		if err != nil {
			return r, absent, state, nil, err
		}
		state, parts, err = s.progress(ctx, r)
		state.Name = r.Name
		if !errors.Is(err, engine.ErrUploadNotFound) || f.tag == tag {
			return r, f.tag, state, parts, err
		}
		tag = f.tag // Between the two requests it may have been finished, as the record then says.
	}
	return r, tag, state, parts, err
}

// Upload implements engine.Engine by two requests.
func (s *S3) Upload(ctx context.Context, id string) (engine.State, error) {
	_, _, state, _, err := s.lookup(ctx, id)
	return state, err
}

// Cancel implements engine.Engine. A writer elsewhere finds the upload gone at its next
// part.
func (s *S3) Cancel(ctx context.Context, id string, permit func(name string) error) error {
	for range maxChanges {
		r, tag, state, _, err := s.lookup(ctx, id)
		switch {
		case tag == absent:
			return err
		case err != nil && !errors.Is(err, engine.ErrUploadNotFound):
			return err
		}
		if err := permit(r.Name); err != nil {
			return err
		}
		if state.Object != nil {
			return engine.ErrUploadFinished
		}
		// A writer may have changed the record, or finished.
		if err := s.drop(ctx, r, tag); !errors.Is(err, errChanged) {
			return err
		}
	}
	return fmt.Errorf("%w: the upload goes on changing", engine.ErrUnavailable)
}

// drop removes an unfinished upload. Its parts go before the record, because only that leads to
// them: if it fails, it can be tried again. A finish that is under way elsewhere finds the
// multipart upload gone, and that the name does not have the object. drop fails with errChanged if
// another process has changed the record meanwhile.
func (s *S3) drop(ctx context.Context, r record, tag string) error {
	if r.S3Upload != "" {
		if err := s.abort(ctx, objectKey(r.Name), r.S3Upload); err != nil {
			return err
		}
	}
	return s.remove(ctx, uploadKey(r.UploadID), tag)
}

// replacedIfChanged is an ErrWriterReplaced in place of errChanged.
func replacedIfChanged(err error) error {
	if errors.Is(err, errChanged) {
		return engine.ErrWriterReplaced
	}
	return err
}

// Expire implements engine.Engine. All processes that share the bucket do it, each for all uploads.
// Records go when they are old, unless a part has arrived since. Then multipart uploads go whose
// last part is old, for the case that no record leads to them.
func (s *S3) Expire(
	ctx context.Context, before time.Time, take engine.Take,
) (abandoned int, err error) {
	used := map[string]bool{} // multipart uploads that are busy
	var failed []error
	// Errors are logged, and one is returned: an upload that cannot be removed does not keep others
	// from it.
	fail := func(what string, err error) {
		// At the end of the process requests fail for that reason alone.
		if err != nil && ctx.Err() == nil {
			level := slog.LevelError
			if errors.Is(err, engine.ErrUnavailable) { // The next round removes it.
				level = slog.LevelWarn
			}
			s.Log.Log(ctx, level, "an upload could not be removed", "key", what, "error", err)
			failed = append(failed[:min(len(failed), 1)], err)
		}
	}
	err = s.each(ctx, uploadsPrefix, func(o types.Object) error {
		key := aws.ToString(o.Key)
		id := strings.TrimPrefix(key, uploadsPrefix)
		if !aws.ToTime(o.LastModified).Before(before) {
			return context.Cause(ctx)
		}
		release, ok := take(id)
		if !ok { // Its multipart upload is busy as well.
			if r, _, err := s.readRecord(ctx, id); err == nil {
				used[r.S3Upload] = true
			}
			return context.Cause(ctx)
		}
		defer release()
		unfinished, err := s.expireRecord(ctx, id, aws.ToString(o.ETag), before)
		if unfinished {
			abandoned++
		}
		fail(key, err)
		return context.Cause(ctx)
	})
	if err != nil {
		return abandoned, err
	}
	// A process may have died between the creation of a multipart upload and its record.
	in := &awss3.ListMultipartUploadsInput{Bucket: s.bucket, Prefix: aws.String(objectsPrefix)}
	for {
		page, err := s.listUploads(ctx, in)
		if err != nil {
			return abandoned, errors.Join(append(failed, err)...)
		}
		for _, u := range page.Uploads {
			if aws.ToTime(u.Initiated).Before(before) && !used[aws.ToString(u.UploadId)] &&
				ctx.Err() == nil {
				old, err := s.isOld(ctx, aws.ToString(u.Key), aws.ToString(u.UploadId), before)
				if old {
					err = s.abort(ctx, aws.ToString(u.Key), aws.ToString(u.UploadId))
				}
				if !errors.Is(err, errYoung) {
					fail(aws.ToString(u.Key), err)
				}
			}
		}
		if !aws.ToBool(page.IsTruncated) || len(page.Uploads) == 0 || ctx.Err() != nil {
			return abandoned, errors.Join(append(failed, context.Cause(ctx))...)
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}

// listUploads is one page of the multipart uploads.
func (s *S3) listUploads(
	ctx context.Context, in *awss3.ListMultipartUploadsInput,
) (*awss3.ListMultipartUploadsOutput, error) {
	ctx, cancel := requestContext(ctx, 0)
	defer cancel()
	page, err := s.client.ListMultipartUploads(ctx, in)
	return page, explain(ctx, err)
}

// expireRecord removes a record, and the multipart upload that it leads to, if the last part of
// that is as old. unfinished says that there was one.
func (s *S3) expireRecord(
	ctx context.Context, id, tag string, before time.Time,
) (unfinished bool, err error) {
	r, _, err := s.readRecord(ctx, id)
	if errors.Is(err, errNoKey) {
		return false, nil // It was removed elsewhere.
	}
	if err == nil && r.S3Upload != "" {
		unfinished, err = s.isOld(ctx, objectKey(r.Name), r.S3Upload, before)
	}
	switch {
	case errors.Is(err, errYoung):
		return false, nil
	case unfinished:
		err = s.drop(ctx, r, tag)
	case err == nil, errors.Is(err, engine.ErrCorrupt):
		err = s.remove(ctx, uploadKey(id), tag)
	}
	// Another process goes on with it, or has removed it.
	if errors.Is(err, errChanged) {
		return false, nil
	}
	return unfinished && err == nil, err
}

// errYoung keeps an upload from expiring.
var errYoung = errors.New("a part has arrived since")

// isOld tells whether a multipart upload is there, and returns errYoung if its last part is not
// old.
func (s *S3) isOld(
	ctx context.Context, key, upload string, before time.Time,
) (unfinished bool, err error) {
	_, last, err := s.parts(ctx, key, upload)
	switch {
	case errors.Is(err, errNoUpload):
		return false, nil
	case err != nil:
		return false, err
	case !last.Before(before):
		return false, errYoung
	}
	return true, nil
}
