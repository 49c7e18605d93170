package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/rpc"
)

// Progress is how far a transfer is.
type Progress struct {
	// Done is how many bytes have been transferred. It may go back when an upload is resumed.
	Done int64
	// Safe is how many of them are so for good: a break costs only what is on its way.
	Safe int64
	// Total is the size of the whole, -1 while it is not known.
	Total int64
	// Resumes is how often the transfer went on after a break.
	Resumes int
}

// DownloadOptions narrow a download.
type DownloadOptions struct {
	// Generation is the only one to accept; 0 for whichever is there.
	Generation int64
	// Offset is the first byte to fetch, and Limit the most bytes, 0 for all up to the end.
	Offset, Limit int64
	// Before is the CRC-32C of the Offset bytes before the range. With it, a range up to the end is
	// verified as a whole.
	Before *uint32
	// Begin, if not nil, is called with the object before its first byte is written; an error of it
	// ends the download.
	Begin func(*quartetv1.Object) error
	// Progress, if not nil, is called after every chunk.
	Progress func(Progress)
}

// Download writes an object, or a range of it, to w, and returns what the server knows of it. Every
// chunk is verified before it is written, and a download of the whole object is verified as a whole
// at the end: with ErrChecksum, what was written must not be used. Breaks are resumed; an object
// that changes meanwhile gives ErrChanged.
func (c *Client) Download(
	ctx context.Context, name string, w io.Writer, options DownloadOptions,
) (object *quartetv1.Object, err error) {
	// One span, one line in the log and one count for the transfer as a whole, however many attempts
	// it takes.
	ctx, o := c.beginTransfer(ctx, c.metrics.downloads, name)
	d := &download{observer: o, client: c, w: w, options: options, offset: options.Offset}
	if options.Before != nil {
		d.crc = *options.Before
	}
	defer func() { o.end(ctx, d.offset-options.Offset, d.crc, err) }()
	if err := c.resumption(o).Resume(ctx, "download", d.attempt); err != nil {
		return nil, fmt.Errorf("download %q: %w", name, err)
	}
	return d.object, d.verify()
}

// download is one download over all its attempts.
type download struct {
	*observer
	client  *Client
	w       io.Writer
	options DownloadOptions

	object *quartetv1.Object
	// offset is the first byte that has not been written, and crc the checksum of all that were.
	offset int64
	crc    uint32
}

// end is the offset of the first byte after the wanted range. The object has to be known.
func (d *download) end() int64 {
	size := int64(d.object.GetSizeBytes())
	if d.options.Limit == 0 || d.options.Limit > size-d.options.Offset {
		return size
	}
	return d.options.Offset + d.options.Limit
}

// request asks for what is still missing.
func (d *download) request() *quartetv1.DownloadObjectRequest {
	r := quartetv1.DownloadObjectRequest_builder{
		Name:       d.name,
		Generation: d.options.Generation,
		ReadOffset: uint64(d.offset),
		ReadLimit:  uint64(d.options.Limit),
	}
	if d.object != nil {
		// From now on it has to be the same content, and only what is missing of it.
		r.Generation = d.object.GetGeneration()
		if r.ReadLimit > 0 {
			r.ReadLimit = uint64(d.end() - d.offset)
		}
	}
	return r.Build()
}

// attempt receives what is missing, over one stream unless the writer is slow.
func (d *download) attempt(ctx context.Context, a *rpc.Attempt) error {
	for {
		a.Wait()
		if err := d.stream(ctx, a); !errors.Is(err, errSlowWriter) {
			return err
		}
	}
}

// errSlowWriter ends a stream that the writer has held up for too long. It is no break, and does
// not count as one.
var errSlowWriter = errors.New("the writer is slow")

// stream receives what is missing over one stream. A chunk that was written is progress.
func (d *download) stream(ctx context.Context, a *rpc.Attempt) error {
	if d.object != nil && d.offset == d.end() {
		return nil // All bytes came, and only the end of the stream was lost.
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &writing{limit: d.client.options.WriteTimeout, left: d.client.options.WriteTimeout,
		timer: time.AfterFunc(math.MaxInt64, cancel)}
	defer w.timer.Stop()
	stream, err := d.client.objects.DownloadObject(ctx, d.request(), grpc.ForceCodecV2(bulk.Codec{}))
	if err != nil {
		return err
	}
	for {
		message := new(quartetv1.DownloadObjectResponse)
		// Its bytes stay in the buffers of the transport, and are written from there.
		received := bulk.Message{Message: message}
		a.Wait()
		err := stream.RecvMsg(&received)
		a.Ready()
		if errors.Is(err, io.EOF) {
			return d.checkEnd()
		}
		if err != nil {
			return streamError(err)
		}
		before := d.offset
		w.begin()
		err = d.receive(message, &received)
		late := w.end(d.offset - before)
		received.Free()
		if d.offset > before {
			a.Progress()
			d.damaged = 0
		}
		switch {
		case err != nil:
			return err
		case late:
			return errSlowWriter
		}
	}
}

// writing is the time for which the writer holds a stream up. The transport tells the server of
// what was read in steps of a quarter of the window, so that time counts until such a step was
// written, however small the messages are.
type writing struct {
	limit, left time.Duration
	// timer cancels the stream when nothing is left.
	timer   *time.Timer
	began   time.Time
	written int64
}

// stepBytes is a quarter of the window that a stream has by default.
const stepBytes = 1 << 20

func (w *writing) begin() {
	w.began = time.Now()
	w.timer.Reset(w.left)
}

// end tells whether the stream was cancelled meanwhile.
func (w *writing) end(bytes int64) (late bool) {
	late = !w.timer.Stop()
	w.left -= time.Since(w.began)
	if w.written += bytes; w.written >= stepBytes {
		w.left, w.written = w.limit, 0
	}
	return late
}

// receive takes one message: the object first, and then chunks. On a later attempt the object has
// to be of the same generation.
func (d *download) receive(
	message *quartetv1.DownloadObjectResponse, received *bulk.Message,
) error {
	switch {
	case message.HasObject() && d.object == nil:
		// Offsets are signed here, and a server could send any number.
		if message.GetObject().GetSizeBytes() > math.MaxInt64 {
			return fmt.Errorf("%w: an object of %d bytes", rpc.ErrProtocol,
				message.GetObject().GetSizeBytes())
		}
		if d.options.Begin != nil {
			if err := d.options.Begin(message.GetObject()); err != nil {
				return rpc.Final(err)
			}
		}
		d.object = message.GetObject()
	case message.HasObject():
		if message.GetObject().GetGeneration() != d.object.GetGeneration() {
			return ErrChanged
		}
	case message.HasChunk() && d.object != nil:
		return d.write(message.GetChunk(), received.Pieces(message.GetChunk().GetData()))
	default:
		return fmt.Errorf("%w: a message that does not belong here", rpc.ErrProtocol)
	}
	return nil
}

// write verifies a chunk and writes it. An error of w is final: another attempt cannot mend it.
func (d *download) write(chunk *quartetv1.DownloadChunk, pieces [][]byte) error {
	size, sum := crc32c.Pieces(pieces)
	if chunk.GetOffset() != uint64(d.offset) || size > d.end()-d.offset {
		return fmt.Errorf("%w: chunk of %d bytes at %d, expected at %d of %d", rpc.ErrProtocol, size,
			chunk.GetOffset(), d.offset, d.end())
	}
	// Damage between server and client is no reason to give up: the next attempt asks for the same
	// bytes again.
	if sum != chunk.GetCrc32C() {
		return fmt.Errorf("chunk at %d: %w", d.offset, ErrChecksum)
	}
	// The offset moves with each piece, so that after an error it says what was written.
	for _, piece := range pieces {
		n, err := d.w.Write(piece)
		d.offset += int64(n)
		if err != nil {
			return rpc.Final(err)
		}
	}
	d.crc = crc32c.Combine(d.crc, sum, size)
	if d.options.Progress != nil {
		done := d.offset - d.options.Offset
		d.options.Progress(Progress{
			Done: done, Safe: done, Total: d.end() - d.options.Offset, Resumes: d.resumes,
		})
	}
	return nil
}

// checkEnd tells a stream that ended because all was sent from one that was ended by something in
// between.
func (d *download) checkEnd() error {
	if d.object == nil {
		return fmt.Errorf("%w: before its first message", rpc.ErrEnded)
	}
	if d.offset < d.end() {
		return fmt.Errorf("%w: at %d of %d", rpc.ErrEnded, d.offset, d.end())
	}
	return nil
}

// streamError makes ErrChanged of what the server says when the object was replaced or deleted.
func streamError(err error) error {
	if rpc.Reason(err) == "GENERATION_GONE" {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}

// verify compares the CRC-32C of the whole with the one that the server has, if the whole was
// fetched. Chunks were verified one by one, but not whether they make the object.
func (d *download) verify() error {
	whole := (d.options.Offset == 0 || d.options.Before != nil) &&
		d.offset == int64(d.object.GetSizeBytes())
	if whole && d.crc != d.object.GetCrc32C() {
		return fmt.Errorf("download %q: %w: crc32c is %08x, the object's is %08x", d.name, ErrChecksum,
			d.crc, d.object.GetCrc32C())
	}
	return nil
}
