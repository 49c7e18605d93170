package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
)

// grace is how long an upload may go on with what it is doing after its sender has gone.
const grace = 10 * time.Second

// maxInFlight is how many parts of an upload are on their way while the next one is received. A
// second one took 18 MiB more, and gave nothing that could be measured.
const maxInFlight = 1

// sending is a part on its way to S3.
type sending struct {
	part
	buffer *[]byte
	done   chan error
}

// upload is an engine.Upload. While a part is on its way to S3 the next one is received, if there
// is memory for it.
type upload struct {
	s      *S3
	ctx    context.Context
	cancel context.CancelFunc
	record
	tag   string // of the record, absent before it is written
	asked bool   // whether there is a record
	done  *engine.Object

	arrived engine.Sums
	buffer  *[]byte // what was received after the last full part
	parts   []part  // that S3 has
	hash    hash.Hash

	inFlight []*sending // parts on their way, oldest first
	failed   bool       // whether one of them has not arrived, so that those after it do not count
	spares   int        // how many buffers there are besides one
	err      error
	closed   bool
}

// Begin implements engine.Engine. A fresh upload asks for nothing until a part is full.
func (s *S3) Begin(ctx context.Context, h engine.Header, fresh bool) (engine.Upload, error) {
	generation := s.generations.Next()
	u := &upload{s: s, buffer: s.buffer(), arrived: engine.Sums{BlockBytes: s.PartBytes}}
	u.record = record{
		Header: h, Generation: generation, CreateTime: time.Unix(0, generation).UTC(),
		PartBytes: s.PartBytes,
	}
	u.HashSHA256 = h.HashSHA256 || len(h.Expect.SHA256) > 0
	if u.HashSHA256 {
		u.hash = sha256.New()
	}
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	u.ctx, u.cancel = longer, func() { stop(); cancel() }
	var err error
	if !fresh {
		_, err = u.ask()
	}
	if err == nil && u.done == nil && h.Expect.Size != nil {
		err = s.Quota.Fits(*h.Expect.Size - u.committed())
	}
	if err != nil {
		u.cancel()
		return nil, err
	}
	return u, nil
}

// ask finds out how far the upload is. Where it is not found there may be a record, which is to be
// written anew.
func (u *upload) ask() (found bool, err error) {
	u.asked = true
	r, tag, state, parts, err := u.s.lookup(u.ctx, u.UploadID)
	switch {
	case errors.Is(err, engine.ErrUploadNotFound):
		u.tag = tag
		return false, nil
	case err != nil:
		return false, err
	case !r.Same(u.Header):
		return true, fmt.Errorf("%w: the record of upload %s has another one", engine.ErrUploadMismatch,
			u.UploadID)
	}
	u.record, u.tag, u.done, u.parts = r, tag, state.Object, parts
	if len(parts) > 0 || u.arrived.Size == 0 {
		u.arrived = engine.Sums{BlockBytes: r.PartBytes}
		for _, p := range parts {
			u.arrived.AddBlock(p.sum)
		}
	}
	if u.hash = nil; r.HashSHA256 {
		u.hash = sha256.New()
		if state, ok := u.hash.(encoding.BinaryUnmarshaler); ok && len(r.Hash) > 0 {
			return true, state.UnmarshalBinary(r.Hash)
		}
	}
	return true, nil
}

// State implements engine.Upload.
func (u *upload) State() engine.State {
	for u.err == nil && len(u.inFlight) > 0 && len(u.inFlight[0].done) > 0 {
		u.err = u.awaitPart()
	}
	if u.done != nil {
		return engine.State{Committed: u.done.Size, Object: u.done}
	}
	return engine.State{Committed: u.committed()}
}

func (u *upload) committed() int64 { return int64(len(u.parts)) * u.PartBytes }

// Append implements engine.Upload.
func (u *upload) Append(pieces [][]byte, stated uint32) error {
	if u.err == nil && u.done != nil {
		return &engine.OffsetError{Committed: u.done.Size}
	}
	after, _, err := u.arrived.After(pieces, stated)
	if err != nil {
		return err
	}
	u.arrived = after
	for _, piece := range pieces {
		for len(piece) > 0 && u.err == nil {
			data := *u.buffer
			n := min(len(piece), int(u.PartBytes)-len(data))
			if need := len(data) + n; need > cap(data) {
				*u.buffer = append(make([]byte, 0, u.room(need, cap(data))), data...)
			}
			*u.buffer = append(*u.buffer, piece[:n]...)
			if piece = piece[n:]; len(*u.buffer) == int(u.PartBytes) {
				u.err = u.flush()
			}
		}
	}
	return u.err
}

// room is how large to make the buffer: as large as the part will be, if that is known.
func (u *upload) room(need, have int) int {
	if size := u.Expect.Size; size != nil {
		before := int64(len(u.parts)+len(u.inFlight)) * u.PartBytes
		return max(need, int(min(*size-before, u.PartBytes))+tailBytes)
	}
	if u.S3Upload != "" {
		return int(u.PartBytes) + tailBytes
	}
	if room := max(need, 2*have, 64<<10); room < int(u.PartBytes) {
		return room
	}
	return int(u.PartBytes) + tailBytes
}

// flush sends a full part off. Where the record has to be written first, it may say that the upload
// has begun already.
func (u *upload) flush() error {
	if len(u.parts)+len(u.inFlight) >= MaxParts-1 {
		return fmt.Errorf("%w: S3 has at most %d parts of %d bytes", engine.ErrTooLarge, MaxParts,
			u.PartBytes)
	}
	if u.S3Upload == "" {
		if err := u.begin(); err != nil {
			return err
		}
	}
	if err := u.s.Quota.Take(int64(len(*u.buffer))); err != nil {
		return err
	}
	before := len(u.parts) + len(u.inFlight)
	p := &sending{part{sum: u.arrived.Full[before], size: u.PartBytes}, u.buffer, make(chan error, 1)}
	upload := u.multipart() // The record may be written anew while the part is in flight.
	go func() {
		var err error
		p.tag, err = upload.sendPart(u.ctx, before+1, *p.buffer, p.sum)
		p.done <- err
	}()
	u.inFlight, u.buffer = append(u.inFlight, p), nil
	if len(u.inFlight) <= maxInFlight && u.s.spares.TryAcquire(1) {
		u.spares, u.buffer = u.spares+1, u.s.buffer()
	}
	for u.buffer == nil {
		if err := u.awaitPart(); err != nil {
			return err
		}
	}
	return nil
}

// begin begins a multipart upload and writes the record that leads to it. Only one process can.
func (u *upload) begin() error {
	ctx, cancel := requestContext(u.ctx, 0)
	defer cancel()
	out, err := u.s.client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{
		Bucket: u.s.bucket, Key: aws.String(objectKey(u.Name)), ContentType: &u.ContentType,
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumType: types.ChecksumTypeFullObject,
	})
	if err != nil {
		return explain(ctx, err)
	}
	r := u.record
	r.S3Upload, r.Object, r.Before = aws.ToString(out.UploadId), nil, ""
	err = u.decide(r)
	// The record leads elsewhere.
	if u.S3Upload != r.S3Upload && (err == nil || errors.Is(err, engine.ErrUploadMismatch)) {
		err = errors.Join(err, u.s.abort(u.ctx, objectKey(u.Name), r.S3Upload))
	}
	switch state := u.State(); {
	case err != nil: // The record may lead to the multipart upload, which therefore stays.
		return err
	case state.Committed > 0 || state.Object != nil:
		return &engine.OffsetError{Committed: state.Committed}
	case u.S3Upload == "":
		return fmt.Errorf("%w: another stream of it finished after %d bytes", engine.ErrUploadMismatch,
			u.Object.Size)
	}
	return nil
}

// decide writes the record, unless there is one by now that leads to something: then it adopts
// that.
func (u *upload) decide(r record) error {
	for range maxChanges {
		tag, err := u.s.writeRecord(u.ctx, r, u.tag)
		if err == nil {
			u.record, u.tag, u.asked = r, tag, true
			return nil
		}
		if !errors.Is(err, errChanged) {
			return err
		}
		found, err := u.ask()
		if err != nil || found && (u.S3Upload == "" || u.done != nil || len(u.parts) > 0 ||
			u.PartBytes == r.PartBytes) {
			return err
		}
	}
	return engine.ErrWriterReplaced
}

// multipart is a multipart upload of S3.
type multipart struct {
	s       *S3
	key, id string
}

func (u *upload) multipart() multipart { return multipart{u.s, objectKey(u.Name), u.S3Upload} }

func (m multipart) sendPart(
	ctx context.Context, number int, data []byte, sum uint32,
) (tag string, err error) {
	ctx, cancel := requestContext(ctx, len(data))
	defer cancel()
	out, err := m.s.client.UploadPart(ctx, &awss3.UploadPartInput{
		Bucket: m.s.bucket, Key: &m.key, UploadId: &m.id,
		PartNumber: aws.Int32(int32(number)), Body: bytes.NewReader(data),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumCRC32C: encodeSum(sum),
	}, unsigned)
	// It was cancelled, or finished, elsewhere.
	if err = explain(ctx, err); errors.Is(err, errNoUpload) {
		return "", fmt.Errorf("%w: %w", engine.ErrWriterReplaced, err)
	}
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

// awaitParts waits for all parts that are on their way.
func (u *upload) awaitParts() (err error) {
	for len(u.inFlight) > 0 {
		if failed := u.awaitPart(); err == nil {
			err = failed
		}
	}
	return err
}

// awaitPart waits for the oldest part. Its buffer is for the next one, if that has none yet. A part
// after one that failed does not count, even if it has arrived: it is sent again.
func (u *upload) awaitPart() error {
	p := u.inFlight[0]
	err := <-p.done
	u.inFlight = u.inFlight[1:]
	u.failed = u.failed || err != nil
	if u.failed {
		u.s.Quota.Give(p.size)
	} else {
		u.parts = append(u.parts, p.part)
		err = u.noteHash(*p.buffer)
	}
	if *p.buffer = (*p.buffer)[:0]; u.buffer == nil {
		u.buffer = p.buffer
	} else {
		u.s.buffers.Put(p.buffer)
		u.s.spares.Release(1)
		u.spares--
	}
	return err
}

// noteHash notes how far the SHA-256 is, if there is one, because nothing else could tell another
// process.
func (u *upload) noteHash(data []byte) (err error) {
	if u.hash == nil {
		return nil
	}
	u.hash.Write(data)
	r := u.record
	if r.Hash, err = u.hash.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return err
	}
	r.Hashed, r.Object = u.committed(), nil
	tag, err := u.s.writeRecord(u.ctx, r, u.tag)
	if errors.Is(err, errChanged) {
		return engine.ErrWriterReplaced
	}
	if err == nil {
		u.record, u.tag = r, tag
	}
	return err
}

// Pause implements engine.Upload.
func (u *upload) Pause() (int64, error) {
	if u.err == nil {
		u.err = u.awaitParts()
	}
	if u.err == nil && !u.asked {
		if _, u.err = u.ask(); u.err == nil && u.State().Committed > 0 {
			u.err = &engine.OffsetError{Committed: u.State().Committed}
		}
	}
	return u.State().Committed, u.err
}

// Finish implements engine.Upload.
func (u *upload) Finish(e engine.Expect) (engine.Object, error) {
	if u.err == nil {
		u.err = u.awaitParts()
	}
	if u.err == nil && u.done == nil {
		u.err = u.finish(e)
	}
	if u.err != nil {
		return engine.Object{}, u.err
	}
	return *u.done, e.Match(*u.done)
}

func (u *upload) finish(e engine.Expect) error {
	if u.Object != nil && u.S3Upload == "" && len(*u.buffer) == 0 && u.Object.Size > 0 {
		return &engine.OffsetError{} // It was decided what to put there, which only the sender has.
	}
	object, err := u.verify(e)
	if errors.Is(err, engine.ErrSizeMismatch) || errors.Is(err, engine.ErrChecksumMismatch) {
		if !u.asked { // The upload may have begun, and then these bytes are not its.
			if _, asked := u.Pause(); asked != nil {
				return asked
			}
		}
		return errors.Join(err, u.discard())
	}
	if err != nil {
		return err
	}
	if len(u.parts) == 0 && u.S3Upload == "" {
		return u.finishSmall(object)
	}
	return u.finishLarge(object)
}

// verify returns the object that was received, if it is the one expected.
func (u *upload) verify(e engine.Expect) (engine.Object, error) {
	rest := *u.buffer
	o := engine.Object{
		Name: u.Name, Generation: u.Generation, ContentType: u.ContentType, CreateTime: u.CreateTime,
		Size: u.arrived.Size, CRC32C: u.arrived.CRC32C(),
	}
	if len(u.Expect.SHA256)+len(e.SHA256) > 0 {
		if u.hash == nil && len(u.parts) > 0 {
			return o, fmt.Errorf("%w: a SHA-256 that the header did not announce", engine.ErrInvalidArgument)
		}
		if u.hash == nil {
			u.hash = sha256.New()
		}
		u.hash.Write(rest)
		o.SHA256 = u.hash.Sum(nil)
	}
	if err := u.Expect.Match(o); err != nil {
		return o, err
	}
	return o, e.Match(o)
}

// discard removes an upload that is not what its sender expects.
func (u *upload) discard() error {
	if u.tag == absent {
		return nil
	}
	u.s.Quota.Give(u.committed())
	return u.s.drop(u.ctx, u.record, u.tag)
}

func (u *upload) trailer(o engine.Object) ([]byte, error) {
	sums := append(slices.Clone(u.arrived.Full), u.arrived.Rest)
	return engine.Trailer(engine.Footer{
		Object: o, UploadID: u.UploadID, BlockBytes: u.arrived.BlockBytes,
	}, sums)
}

// finishSmall puts an object in the place of what the name has. First the record says what that is,
// so that another attempt can tell whether this one has succeeded.
func (u *upload) finishSmall(object engine.Object) error {
	_, before, err := u.s.stat(u.ctx, u.Name, engine.FooterBytes)
	if err != nil && !errors.Is(err, engine.ErrNotFound) && !errors.Is(err, engine.ErrCorrupt) {
		return err
	}
	if u.Object == nil {
		r := u.record
		r.Object, r.Before = &object, before.tag
		if err := u.decide(r); err != nil || u.done != nil {
			return err
		}
	}
	if u.S3Upload != "" {
		return &engine.OffsetError{Committed: u.committed()}
	}
	if err := u.sameObject(object); err != nil {
		return err
	}
	trailer, err := u.trailer(*u.Object)
	if err != nil {
		return err
	}
	data := append(*u.buffer, trailer...)
	if err := u.s.Quota.Take(int64(len(data)) + engine.FileOverhead); err != nil {
		return err
	}
	for tag := u.Before; ; tag = absent {
		_, err := u.s.put(u.ctx, objectKey(u.Name), data, u.ContentType, tag)
		if err == nil {
			break
		}
		if !errors.Is(err, errChanged) {
			return err
		}
		state, _, err := u.s.smallProgress(u.ctx, u.record)
		if err != nil {
			return err
		}
		if state.Object != nil { // It is there, or was, before what is there now.
			break
		}
		// What was there before was deleted.
	}
	u.done = u.Object
	return nil
}

// sameObject returns an ErrUploadMismatch unless the object is the one that the record says.
func (u *upload) sameObject(o engine.Object) error {
	if u.Object.Size != o.Size || u.Object.CRC32C != o.CRC32C {
		return fmt.Errorf("%w: another stream of it finished with other content",
			engine.ErrUploadMismatch)
	}
	return nil
}

// finishLarge sends what is left, notes what the parts make, and has S3 put them together, which it
// does once.
func (u *upload) finishLarge(object engine.Object) error {
	if u.Object != nil {
		if err := u.sameObject(object); err != nil {
			return err
		}
	}
	trailer, err := u.trailer(object)
	if err != nil {
		return err
	}
	rest := append(*u.buffer, trailer...)
	if err := u.s.Quota.Take(int64(len(rest)) + engine.FileOverhead); err != nil {
		return err
	}
	sum := crc32c.Combine(u.arrived.Rest, crc32c.Checksum(trailer), int64(len(trailer)))
	tag, err := u.multipart().sendPart(u.ctx, len(u.parts)+1, rest, sum)
	if err != nil {
		return err
	}
	parts := slices.Concat(u.parts, []part{{tag, sum, int64(len(rest))}})
	if u.Object == nil {
		r := u.record
		r.Object = &object
		if u.tag, err = u.s.writeRecord(u.ctx, r, u.tag); err != nil {
			if errors.Is(err, errChanged) {
				err = engine.ErrWriterReplaced
			}
			return err
		}
		u.record = r
	}
	if err := u.complete(parts); err != nil {
		return err
	}
	u.done = u.Object
	return nil
}

func (u *upload) complete(parts []part) error {
	ctx, cancel := requestContext(u.ctx, len(parts)<<10)
	defer cancel()
	in := &awss3.CompleteMultipartUploadInput{
		Bucket: u.s.bucket, Key: aws.String(objectKey(u.Name)), UploadId: &u.S3Upload,
		MultipartUpload: &types.CompletedMultipartUpload{},
		ChecksumType:    types.ChecksumTypeFullObject,
	}
	var whole uint32
	for i, p := range parts {
		whole = crc32c.Combine(whole, p.sum, p.size)
		in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, types.CompletedPart{
			PartNumber: aws.Int32(int32(i + 1)), ETag: &p.tag, ChecksumCRC32C: encodeSum(p.sum),
		})
	}
	in.ChecksumCRC32C = encodeSum(whole)
	_, err := u.s.client.CompleteMultipartUpload(ctx, in)
	err = explain(ctx, err)
	switch {
	// It was completed, by an attempt whose answer was lost or in another process, or cancelled.
	case errors.Is(err, errNoUpload):
		if _, _, err := u.s.readRecord(u.ctx, u.UploadID); err != nil {
			return fmt.Errorf("%w: %w", engine.ErrWriterReplaced, err)
		}
		return nil
	case errors.Is(err, errParts): // Another process has sent some of them again, in other bytes.
		return fmt.Errorf("%w: %w", engine.ErrWriterReplaced, err)
	}
	return err
}

// Close implements engine.Upload. What S3 does not have yet is dropped.
func (u *upload) Close() error {
	if u.closed {
		return nil
	}
	u.closed = true
	err := u.awaitParts()
	u.cancel()
	u.s.spares.Release(int64(u.spares))
	if u.buffer != nil {
		u.s.buffers.Put(u.buffer)
	}
	return err
}
