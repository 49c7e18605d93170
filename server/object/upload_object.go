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

type uploadStream = grpc.ClientStreamingServer[
	quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]

// UploadObject (client streaming) receives an object, or the next piece of one. However the stream
// ends, what is committed is kept.
func (s *service) UploadObject(stream uploadStream) error {
	ctx := stream.Context()
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
	release, err := s.memory.forUpload(ctx)
	if err != nil {
		return err
	}
	defer release()
	lease, err := s.leases.acquire(ctx, header.UploadID)
	if err != nil {
		return err
	}
	defer lease.release()
	w := &writer{service: s, ctx: ctx, header: header}
	defer w.close()
	requests := rpc.Receive(ctx, func() (*uploadRequest, error) { return recvUpload(stream) })
	return s.receiveUpload(w, lease, requests, stream)
}

// checkHeader refuses what no engine has to see.
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

func (s *service) tooLarge() error {
	return fmt.Errorf("%w: at most %d bytes are allowed", engine.ErrTooLarge, int64(s.config.MaxBytes))
}

// receiveHeader takes the first message. It holds no memory before that, and the host of all
// services ends streams that do not begin.
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

// errUploadStopped sends a sender to another server.
func errUploadStopped() error {
	return rpc.Stopping("the server is stopping; the upload is kept and continues elsewhere")
}

// leastRate is how many bytes an upload has to bring in a second, over IDLE_TIMEOUT, so that a byte
// now and then does not hold its memory and its place. A sender that is slower goes on in a stream
// of its own.
const leastRate = 64

// receiveUpload takes chunks until the sender finishes or pauses, a newer stream takes the upload
// over, or the server drains.
func (s *service) receiveUpload(
	w *writer, lease *lease, requests <-chan rpc.Received[uploadRequest], stream uploadStream,
) error {
	idle := time.NewTimer(s.config.IdleTimeout)
	defer idle.Stop()
	least, mark := int64(s.config.IdleTimeout.Seconds()*leastRate), int64(0)
	for {
		select {
		case r := <-requests:
			switch {
			case errors.Is(r.Err, io.EOF):
				committed, err := w.pause()
				if err != nil {
					return err
				}
				return stream.SendAndClose(quartetv1.UploadObjectResponse_builder{
					CommittedSizeBytes: uint64(committed),
				}.Build())
			case r.Err != nil:
				return r.Err
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
			if w.received-mark >= least {
				idle.Reset(s.config.IdleTimeout)
				mark = w.received
			}
		case <-lease.replaced:
			return engine.ErrWriterReplaced
		case <-idle.C:
			if w.upload != nil {
				if _, err := w.pause(); err != nil {
					return err
				}
			}
			return fmt.Errorf("upload paused: %w, or less than %d bytes in a second", rpc.ErrIdle, leastRate)
		case <-s.host.Draining:
			if _, err := w.pause(); err != nil {
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

func uploadHeader(h *quartetv1.UploadHeader) engine.Header {
	return engine.Header{
		UploadID:    h.GetUploadId(),
		Name:        h.GetName(),
		ContentType: cmp.Or(h.GetContentType(), defaultContentType),
		Expect:      uploadExpect(h),
		HashSHA256:  h.GetHashSha256(),
	}
}
