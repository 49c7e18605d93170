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

// grace is how long an upload may go on with what it is doing after its sender has gone, so that a
// part on its way need not be sent again.
const grace = 10 * time.Second

// maxInFlight is how many parts of an upload are on their way while the next one is received. A
// second one took 18 MiB more, and gave nothing that could be measured.
const maxInFlight = 1

// sending is a part on its way to S3. The goroutine that sends it sets tag, and then done has its
// result.
type sending struct {
	part
	buffer *[]byte
	done   chan error
}

// upload is an engine.Upload. It collects a part in memory and sends it off by a goroutine;
// meanwhile the next one is received, if there is memory for it. All else is done by the goroutine
// that owns the upload. A fresh upload writes nothing until a part is full, or it is finished.
type upload struct {
	s *S3
	// ctx outlives the sender's by grace.
	ctx    context.Context
	cancel context.CancelFunc
	record
	// tag is that of the record, absent before it is written.
	tag string
	// asked says that it is known whether there is a record.
	asked bool
	// done is the object once the upload is finished.
	done *engine.Object

	// arrived are the checksums of all bytes that were taken, a block for each part.
	arrived engine.Sums
	// buffer has what was taken after the last full part.
	buffer *[]byte
	// parts are those that S3 has, all from the first on.
	parts []part
	// hash is the SHA-256 over parts, if the sender names or announces one.
	hash hash.Hash

	// inFlight are the parts on their way, oldest first.
	inFlight []*sending
	// failed says that one of them has not arrived: those after it do not count.
	failed bool
	// spares is how many buffers there are besides one, each counted in S3.spares.
	spares int
	// err is the first failure, after which the upload can only be closed.
	err    error
	closed bool
}

// Begin implements engine.Engine. For a fresh upload it asks for nothing: whether there is a record
// shows when a part is full, which saves small objects a request.
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
	// The part that is on its way when the sender goes is worth more than the time that it takes.
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

// ask finds out how far the upload is, and continues there. If it returns false, the upload has to
// begin, and u.tag is that of a record to write in place of, or absent; u.Object is then what that
// record has decided.
func (u *upload) ask() (found bool, err error) {
	u.asked = true
	r, tag, state, parts, err := u.s.lookup(u.ctx, u.UploadID)
	switch {
	case errors.Is(err, engine.ErrUploadNotFound) && r.Object == nil:
		u.tag = tag
		return false, nil
	case err != nil && !errors.Is(err, engine.ErrUploadNotFound):
		return false, err
	case !r.Same(u.Header):
		return true, fmt.Errorf("%w: the record of upload %s has another one", engine.ErrUploadMismatch,
			u.UploadID)
	case err != nil:
		// The object was decided and is not there. If it is sent again it is the same one.
		u.tag, u.Object, u.Before = tag, r.Object, r.Before
		u.Generation, u.CreateTime = r.Generation, r.CreateTime
		return false, nil
	}
	// The record that is there counts: generation, part size and creation are those of the first
	// stream.
	u.record, u.tag, u.done, u.parts = r, tag, state.Object, parts
	// Otherwise bytes were taken from the first on, and nothing of the upload is committed elsewhere:
	// they still count.
	if len(parts) > 0 || u.arrived.Size == 0 {
		u.arrived = engine.Sums{BlockBytes: r.PartBytes}
		for _, p := range parts {
			u.arrived.AddBlock(p.sum)
		}
	}
	// The hash goes on where the record says, in whichever process the parts before were sent.
	if u.hash = nil; r.HashSHA256 {
		u.hash = sha256.New()
		if state, ok := u.hash.(encoding.BinaryUnmarshaler); ok && len(r.Hash) > 0 {
			return true, state.UnmarshalBinary(r.Hash)
		}
	}
	return true, nil
}

// State implements engine.Upload. It notices parts that have arrived meanwhile, without waiting for
// any.
func (u *upload) State() engine.State {
	for u.err == nil && len(u.inFlight) > 0 && len(u.inFlight[0].done) > 0 {
		u.err = u.awaitPart()
	}
	if u.done != nil {
		return engine.State{Name: u.Name, Committed: u.done.Size, Object: u.done}
	}
	return engine.State{Name: u.Name, Committed: u.committed()}
}

// committed is how many bytes S3 has in parts.
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

// room is how large to make the buffer: as large as the part will be, where that is known or the
// object has several, and else twice as large as before, so that small objects of unknown size take
// little.
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

// flush sends a full part off. Before the first one it begins the upload; if that finds that the
// upload had begun already, flush returns an OffsetError. It returns when there is a buffer for the
// next part: a spare one, or that of a part that has arrived.
func (u *upload) flush() error {
	// One part is left for the trailer.
	if len(u.parts)+len(u.inFlight) >= MaxParts-1 {
		return fmt.Errorf("%w: S3 has at most %d parts of %d bytes", engine.ErrTooLarge, MaxParts,
			u.PartBytes)
	}
	if u.S3Upload == "" {
		if err := u.begin(); err != nil {
			return err
		}
	}
	// A part counts from when it is sent, and is given back if it fails or the upload is discarded.
	if err := u.s.Quota.Take(int64(len(*u.buffer))); err != nil {
		return err
	}
	before := len(u.parts) + len(u.inFlight)
	// The buffer belongs to the goroutine until done has its result.
	p := &sending{part{sum: u.arrived.Full[before], size: u.PartBytes}, u.buffer, make(chan error, 1)}
	upload := u.multipart() // The record may be written anew while the part is in flight.
	go func() {
		p.done <- engine.CatchPanic(func() (err error) {
			p.tag, err = upload.sendPart(u.ctx, before+1, *p.buffer, p.sum)
			return err
		})
	}()
	u.inFlight, u.buffer = append(u.inFlight, p), nil
	// With a spare buffer the next part is received while this one is sent. Without one the stream
	// waits, which holds its sender back.
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

// begin begins a multipart upload of S3 and writes the record that leads to it. If another process
// has written one first, begin aborts its own multipart upload and goes on with that record: with
// an OffsetError if something is committed there.
func (u *upload) begin() error {
	ctx, cancel := requestContext(u.ctx, 0)
	defer cancel()
	out, err := u.s.client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{
		Bucket: u.s.bucket, Key: aws.String(objectKey(u.Name)), ContentType: &u.ContentType,
		// With the checksum of the full object S3 can be told the CRC-32C of the whole at the end.
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

// decide writes the record r, unless there is one by now that leads to something: then it continues
// from that one, and the caller has to look at what u says.
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
		// Another process has written the record, or removed it: look again.
		found, err := u.ask()
		if err != nil || found && (u.S3Upload == "" || u.done != nil || len(u.parts) > 0 ||
			u.PartBytes == r.PartBytes) {
			return err
		}
		r.Generation, r.CreateTime = u.Generation, u.CreateTime
		if u.Object != nil && r.Object != nil {
			if err := u.sameObject(*r.Object); err != nil {
				return err
			}
			r.Object, r.Before = u.Object, u.Before
		}
	}
	return engine.ErrWriterReplaced
}

// multipart is what names a multipart upload of S3. It is a copy, for a goroutine that must not
// look at the upload's record.
type multipart struct {
	s       *S3
	key, id string
}

func (u *upload) multipart() multipart { return multipart{u.s, objectKey(u.Name), u.S3Upload} }

// sendPart sends a part, which S3 compares with its CRC-32C. Sending a part again replaces it.
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

// awaitParts waits for all parts that are on their way, and returns the first of their errors.
func (u *upload) awaitParts() (err error) {
	for len(u.inFlight) > 0 {
		if failed := u.awaitPart(); err == nil {
			err = failed
		}
	}
	return err
}

// awaitPart waits for the oldest part on its way. Its buffer becomes that of the next part, if that
// has none yet. A part behind one that failed does not count, even if it has arrived: it is sent
// again.
func (u *upload) awaitPart() error {
	p := u.inFlight[0]
	err := <-p.done
	u.inFlight = u.inFlight[1:]
	u.failed = u.failed || err != nil
	// The part was counted when it was sent off.
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

// noteHash adds a part to the SHA-256, if there is one, and writes its state into the record.
func (u *upload) noteHash(data []byte) (err error) {
	if u.hash == nil {
		return nil
	}
	u.hash.Write(data)
	r := u.record
	if r.Hash, err = u.hash.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return err
	}
	// Only parts that S3 has are in the state, so that it fits to where another process continues.
	r.Hashed, r.Object = u.committed(), nil
	return u.rewrite(r)
}

// rewrite writes the record r in place of the one that there is. It fails with an ErrWriterReplaced
// if another process has changed or removed that.
func (u *upload) rewrite(r record) error {
	tag, err := u.s.writeRecord(u.ctx, r, u.tag)
	if errors.Is(err, errChanged) {
		tag, err = u.s.written(u.ctx, r)
	}
	if err == nil {
		u.record, u.tag = r, tag
	}
	return replacedIfChanged(err)
}

// Pause implements engine.Upload. What is not a whole part is not committed.
func (u *upload) Pause() (int64, error) {
	if u.err == nil {
		u.err = u.awaitParts()
	}
	// A fresh upload without a full part has asked for nothing yet. If something is committed, its
	// sender was wrong to begin at 0.
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

// finish verifies the upload and makes the object visible, by one PutObject if no part was sent, or
// else by completing the multipart upload.
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
	// One PutObject takes the place of a multipart upload with a single part.
	if len(u.parts) == 0 && u.S3Upload == "" {
		return u.finishSmall(object)
	}
	return u.finishLarge(object)
}

// verify returns the object that was received, or an error if it is not the one that the header and
// e state. A SHA-256 has to be announced before the first part is sent, as parts cannot be read.
func (u *upload) verify(e engine.Expect) (engine.Object, error) {
	rest := *u.buffer
	o := engine.Object{
		Name: u.Name, Generation: u.Generation, ContentType: u.ContentType, CreateTime: u.CreateTime,
		Size: u.arrived.Size, CRC32C: u.arrived.CRC32C(),
	}
	if len(u.Expect.SHA256)+len(e.SHA256) > 0 {
		// The first parts were not hashed, and can no longer be read.
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

// discard removes an upload that is not what its sender expects, as more bytes cannot make it
// right.
func (u *upload) discard() error {
	if u.tag == absent {
		return nil
	}
	err := u.s.drop(u.ctx, u.record, u.tag)
	if err == nil {
		u.s.Quota.Give(u.committed())
		u.parts = nil
	}
	return replacedIfChanged(err)
}

// trailer is what is stored behind the content. Its last checksum, of what is after the last full
// part, may cover nothing.
func (u *upload) trailer(o engine.Object) ([]byte, error) {
	sums := append(slices.Clone(u.arrived.Full), u.arrived.Rest)
	return engine.Trailer(engine.Footer{
		Object: o, UploadID: u.UploadID, BlockBytes: u.arrived.BlockBytes,
	}, sums)
}

// before is what the name has, which the object is to replace. A damaged object may be replaced.
func (u *upload) before() (found, error) {
	_, before, err := u.s.stat(u.ctx, u.Name, engine.FooterBytes)
	if errors.Is(err, engine.ErrNotFound) || errors.Is(err, engine.ErrCorrupt) {
		err = nil
	}
	return before, err
}

// finishSmall puts an object in the place of what the name has. First it writes a record that says
// what that is, so that an attempt whose answer is lost can be made again, here or in another
// process: published tells from the record whether the first one has succeeded.
func (u *upload) finishSmall(object engine.Object) error {
	before, err := u.before()
	if err != nil {
		return err
	}
	if u.Object == nil {
		r := u.record
		r.Object, r.Before = &object, before.tag
		if err := u.decide(r); err != nil || u.done != nil {
			return err
		}
	}
	// Another stream has begun a multipart upload meanwhile.
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
	need := int64(len(data)) + engine.FileOverhead
	if err := u.s.Quota.Take(need); err != nil {
		return err
	}
	replaced, err := u.putSmall(data)
	switch {
	case err != nil:
		u.s.Quota.Give(need)
		return err
	case replaced == before.tag && replaced != absent:
		u.s.Quota.Give(before.size + engine.FileOverhead)
	}
	u.done = u.Object
	return nil
}

// putSmall puts the object in the place of what the record says, or of nothing once that has gone,
// and returns the tag of what it has replaced, or absent. A conflict with a request of another
// process is no change, so that the next attempt is made on condition of what is there then.
func (u *upload) putSmall(data []byte) (replaced string, err error) {
	tag := u.Before
	for range maxChanges {
		_, err = u.s.put(u.ctx, objectKey(u.Name), data, u.ContentType, tag)
		if err == nil {
			return tag, nil
		}
		if !errors.Is(err, errChanged) {
			return absent, err
		}
		state, found, stateErr := u.s.published(u.ctx, u.record)
		if stateErr != nil {
			return absent, stateErr
		}
		if state.Object != nil { // It is there, or was, before what is there now.
			return absent, nil
		}
		tag = found
	}
	return absent, fmt.Errorf("%w: %w", engine.ErrUnavailable, err)
}

// sameObject returns an ErrUploadMismatch unless the object is the one that the record says.
func (u *upload) sameObject(o engine.Object) error {
	if u.Object.Size != o.Size || u.Object.CRC32C != o.CRC32C {
		return fmt.Errorf("%w: another stream of it finished with other content",
			engine.ErrUploadMismatch)
	}
	return nil
}

// finishLarge sends what is left with the trailer as the last part, writes into the record which
// object the parts make and what the name had before, and has S3 put them together, which it does
// once.
func (u *upload) finishLarge(object engine.Object) (err error) {
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
	need := int64(len(rest)) + engine.FileOverhead
	if err := u.s.Quota.Take(need); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			u.s.Quota.Give(need)
		}
	}()
	// The last part has the rest of the content and the trailer.
	sum := crc32c.Combine(u.arrived.Rest, crc32c.Checksum(trailer), int64(len(trailer)))
	tag, err := u.multipart().sendPart(u.ctx, len(u.parts)+1, rest, sum)
	if err != nil {
		return err
	}
	parts := slices.Concat(u.parts, []part{{tag, sum, int64(len(rest))}})
	// Before completion, so that a process that finds the multipart upload gone can tell by the name
	// what became of it.
	if u.Object == nil {
		before, err := u.before()
		if err != nil {
			return err
		}
		r := u.record
		r.Object, r.Before = &object, before.tag
		if err := u.rewrite(r); err != nil {
			return err
		}
	}
	if err = u.complete(parts); err != nil {
		return err
	}
	u.done = u.Object
	return nil
}

// complete has S3 put the parts together. That it was done already is no error, whether by an
// attempt whose answer was lost or by another process. An answer without the checksum of the whole
// is not believed: versitygw gives one, with status 200, to a second request during the first.
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
	// S3 compares the whole as well.
	in.ChecksumCRC32C = encodeSum(whole)
	out, err := u.s.client.CompleteMultipartUpload(ctx, in)
	err = explain(ctx, err)
	switch {
	case err == nil && out.ChecksumCRC32C != nil:
		return nil
	case errors.Is(err, errParts): // Another process has sent some of them again, in other bytes.
		return fmt.Errorf("%w: %w", engine.ErrWriterReplaced, err)
	case err != nil && !errors.Is(err, errNoUpload):
		return err
	}
	state, _, failed := u.s.published(u.ctx, u.record)
	switch {
	case failed != nil || state.Object != nil:
		return failed
	case err == nil:
		return fmt.Errorf("%w: the parts are not put together yet", engine.ErrUnavailable)
	}
	// It was cancelled, or has expired, or the service failed while it put the parts together.
	return fmt.Errorf("%w: %w", engine.ErrWriterReplaced, err)
}

// Close implements engine.Upload. It waits for parts on their way, up to grace if the sender has
// gone, because they are committed with that. What is not sent is dropped.
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
