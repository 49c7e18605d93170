package object

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/engine"
)

// uploadStream is the server's side of the RPC.
type uploadStream = grpc.ClientStreamingServer[
	quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]

// UploadObject (client streaming) receives an object, or the next piece of one. However the stream
// ends, what is committed is kept, and the sender continues there in another stream, on any
// replica.
func (s *service) UploadObject(stream uploadStream) error {
	ctx := stream.Context()
	// The order is from what is cheap to refuse to what takes most: a place, the header, memory, and
	// the lease, for which the stream before has to end.
	leave, err := s.limits.transfer(ctx)
	if err != nil {
		return err
	}
	defer leave()
	header, err := receiveHeader(stream)
	if err != nil {
		return err
	}
	if err := s.checkHeader(header); err != nil {
		return err
	}
	if err := permit(ctx, header.Name); err != nil {
		return err
	}
	release, err := s.memory.forUpload(ctx)
	if err != nil {
		return err
	}
	defer release()
	// A stream that gives the upload another name is refused, and leaves the one before alone.
	lease, err := s.lease(ctx, header.UploadID, func(name string) error {
		if name != header.Name {
			return engine.ErrUploadMismatch
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer lease.release()
	w := &writer{service: s, ctx: ctx, header: header, lease: lease}
	defer w.close()
	// From here on messages are received by a goroutine, so that receiveUpload can wait for other
	// events as well.
	requests := rpc.Receive(ctx, func() (*uploadRequest, error) { return recvUpload(stream) })
	return s.receiveUpload(w, requests, stream)
}

// checkHeader refuses what breaks the rules of the contract, before memory is reserved and the
// engine is asked.
func (s *service) checkHeader(h engine.Header) error {
	for _, err := range []error{
		engine.CheckUploadID(h.UploadID), engine.CheckName(h.Name),
		engine.CheckContentType(h.ContentType), h.Expect.Check(),
	} {
		if err != nil {
			return err
		}
	}
	if h.Expect.Size != nil && *h.Expect.Size > int64(s.config.MaxBytes) {
		return s.tooLarge()
	}
	return nil
}

// tooLarge is the error for an object beyond MAX_BYTES.
func (s *service) tooLarge() error {
	return fmt.Errorf("%w: at most %d bytes are allowed", engine.ErrTooLarge, int64(s.config.MaxBytes))
}

// receiveHeader takes the first message. No memory is reserved for the stream until then; one that
// sends no message is ended by the host, as it does for all services.
func receiveHeader(stream uploadStream) (h engine.Header, err error) {
	r, err := recvUpload(stream)
	if err != nil {
		return h, rpc.FirstMessage(err)
	}
	defer r.bulk.Free()
	if !r.HasHeader() {
		return h, fmt.Errorf("%w: the first message of an upload is its header", rpc.ErrMessageOrder)
	}
	return uploadHeader(r.GetHeader()), nil
}

// errUploadStopped ends a stream when the drain begins: its sender continues on another server.
func errUploadStopped() error {
	return rpc.Stopping("the server is stopping; the upload is kept and continues elsewhere")
}

// minRate is how many bytes an upload has to bring in a second, over IDLE_TIMEOUT, so that a byte
// now and then does not hold its memory and its place. A sender that is slower goes on in a stream
// of its own.
const minRate = 64

// receiveUpload takes messages until the sender finishes or pauses, a newer stream takes the upload
// over, the sender is idle or too slow, or the server drains. It runs in the handler's goroutine,
// and w is used by no other.
func (s *service) receiveUpload(
	w *writer, requests <-chan rpc.Received[uploadRequest], stream uploadStream,
) error {
	idle := time.NewTimer(s.config.IdleTimeout)
	defer idle.Stop()
	least, mark := int64(s.config.IdleTimeout.Seconds()*minRate), int64(0)
	for {
		select {
		case r := <-requests:
			switch {
			// The sender has half-closed without finish: it pauses.
			case errors.Is(r.Err, io.EOF):
				committed, err := w.pause()
				if err != nil {
					return err
				}
				return stream.SendAndClose(quartetv1.UploadObjectResponse_builder{
					CommittedSizeBytes: uint64(committed),
				}.Build())
			// The stream is broken or cancelled. writer.close keeps what it can.
			case r.Err != nil:
				return r.Err
			// The reply is sent once the object is durable.
			case r.Message.HasFinish():
				o, err := w.finish(uploadExpect(r.Message.GetFinish()))
				if err != nil {
					return err
				}
				return stream.SendAndClose(quartetv1.UploadObjectResponse_builder{
					CommittedSizeBytes: uint64(o.Size), Object: protoObject(o),
				}.Build())
			}
			if err := w.chunk(r.Message); err != nil {
				return err
			}
			// The time begins anew only after enough bytes for all of it, and not with each message.
			if w.received-mark >= least {
				idle.Reset(s.config.IdleTimeout)
				mark = w.received
			}
		// The newer stream waits for writer.close, which keeps what it can.
		case <-w.lease.replaced:
			return engine.ErrWriterReplaced
		case <-idle.C:
			if err := w.keep(); err != nil {
				return err
			}
			return fmt.Errorf("upload paused: %w, or less than %d bytes in a second", rpc.ErrIdle, minRate)
		// What has arrived is committed first, so that the sender repeats as little as possible.
		case <-s.host.Draining:
			if err := w.keep(); err != nil {
				return err
			}
			return errUploadStopped()
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// uploadRequest is a message of an upload, with its bulk in the buffers that it came in.
type uploadRequest struct {
	*quartetv1.UploadObjectRequest
	bulk bulk.Message
}

// recvUpload receives one message. Its bulk must be freed when it is not needed any more.
func recvUpload(stream grpc.ServerStream) (*uploadRequest, error) {
	r := &uploadRequest{UploadObjectRequest: new(quartetv1.UploadObjectRequest)}
	r.bulk.Message = r.UploadObjectRequest
	return r, stream.RecvMsg(&r.bulk)
}

// stated is what a header and a finish have in common: what the sender says of the whole object.
type stated interface {
	HasSizeBytes() bool
	GetSizeBytes() uint64
	HasCrc32C() bool
	GetCrc32C() uint32
	GetSha256() []byte
}

// uploadExpect is what a header or a finish states. What is not set is nil, and is not verified.
func uploadExpect(s stated) engine.Expect {
	expect := engine.Expect{SHA256: s.GetSha256()}
	if s.HasSizeBytes() {
		expect.Size = new(clamp(s.GetSizeBytes()))
	}
	if s.HasCrc32C() {
		expect.CRC32C = new(s.GetCrc32C())
	}
	return expect
}

// uploadHeader is a header as the engine takes it.
func uploadHeader(h *quartetv1.UploadHeader) engine.Header {
	return engine.Header{
		UploadID:    h.GetUploadId(),
		Name:        h.GetName(),
		ContentType: cmp.Or(h.GetContentType(), defaultContentType),
		Expect:      uploadExpect(h),
		HashSHA256:  h.GetHashSha256(),
	}
}
