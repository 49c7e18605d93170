package object

import (
	"context"
	"errors"
	"io"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"example.com/quartet/internal/crc32c"
)

// naiveBytes is the chunk that most examples of gRPC have.
const naiveBytes = 64 << 10

// The keys of a naive call's metadata.
const (
	jobKey   = "job"
	bytesKey = "bytes"
	crcKey   = "crc32c"
)

// naiveServer is what one writes first: read a chunk, send it as a message, with nothing set
// anywhere.
type naiveServer struct {
	grpc_testing.UnimplementedTestServiceServer
	*store
}

func jobOf(ctx context.Context) (Job, error) {
	values := metadata.ValueFromIncomingContext(ctx, jobKey)
	if len(values) != 1 {
		return Job{}, errors.New("a call without a job")
	}
	return parseJob(values[0])
}

// StreamingOutputCall is the download.
func (s *naiveServer) StreamingOutputCall(
	_ *grpc_testing.StreamingOutputCallRequest, stream grpc_testing.TestService_StreamingOutputCallServer,
) error {
	job, err := jobOf(stream.Context())
	if err != nil {
		return err
	}
	chunks := &chunkWriter{check: job.Check, send: func(p *grpc_testing.Payload) error {
		return stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: p})
	}}
	if err := s.give(job, chunks); err != nil {
		return err
	}
	stream.SetTrailer(chunks.metadata())
	return nil
}

// StreamingInputCall is the upload.
func (s *naiveServer) StreamingInputCall(stream grpc_testing.TestService_StreamingInputCallServer) error {
	job, err := jobOf(stream.Context())
	if err != nil {
		return err
	}
	sum, err := s.take(job, &chunkReader{receive: func() (*grpc_testing.Payload, error) {
		request, err := stream.Recv()
		return request.GetPayload(), err
	}})
	if err != nil {
		return err
	}
	stream.SetTrailer(sum.metadata())
	return stream.SendAndClose(&grpc_testing.StreamingInputCallResponse{})
}

func (s Sum) metadata() metadata.MD {
	return metadata.Pairs(
		bytesKey, strconv.FormatInt(s.Bytes, 10), crcKey, strconv.FormatUint(uint64(s.CRC), 10),
	)
}

func sumIn(md metadata.MD) (s Sum, err error) {
	size, crc := md.Get(bytesKey), md.Get(crcKey)
	if len(size) != 1 || len(crc) != 1 {
		return s, errors.New("a call without a sum")
	}
	s.Bytes, err = strconv.ParseInt(size[0], 10, 64)
	n, crcErr := strconv.ParseUint(crc[0], 10, 32)
	s.CRC = uint32(n)
	return s, errors.Join(err, crcErr)
}

// chunkWriter sends what is written as messages.
type chunkWriter struct {
	Sum
	check bool
	send  func(*grpc_testing.Payload) error
}

func (w *chunkWriter) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		chunk := p[written:min(len(p), written+naiveBytes)]
		if w.check {
			w.CRC = crc32c.Update(w.CRC, chunk)
		}
		err = w.send(&grpc_testing.Payload{Body: chunk})
		written += len(chunk)
	}
	w.Bytes += int64(written)
	return written, err
}

// ReadFrom reads a file by the chunk.
func (w *chunkWriter) ReadFrom(r io.Reader) (int64, error) {
	before := w.Bytes
	err := copyAll(w, r, make([]byte, naiveBytes))
	return w.Bytes - before, err
}

// chunkReader reads what comes as messages.
type chunkReader struct {
	receive func() (*grpc_testing.Payload, error)
	rest    []byte
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		payload, err := r.receive()
		if err != nil {
			return 0, err
		}
		r.rest = payload.GetBody()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// naiveClient is the other end.
type naiveClient struct {
	alike
	conn *grpc.ClientConn
}

func newNaiveClient(address string) (*naiveClient, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return &naiveClient{conn: conn}, err
}

func (c *naiveClient) close() { _ = c.conn.Close() } // It fails only if it is closed already.

func (c *naiveClient) stub(ctx context.Context, job Job) (context.Context, grpc_testing.TestServiceClient) {
	return metadata.AppendToOutgoingContext(ctx, jobKey, job.String()), grpc_testing.NewTestServiceClient(c.conn)
}

func (c *naiveClient) download(ctx context.Context, job Job) (Sum, error) {
	ctx, stub := c.stub(ctx, job)
	stream, err := stub.StreamingOutputCall(ctx, &grpc_testing.StreamingOutputCallRequest{})
	if err != nil {
		return Sum{}, err
	}
	got := &sink{check: job.Check}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Sum{}, err
		}
		_, _ = got.Write(message.GetPayload().GetBody()) // A sink takes everything.
	}
	sent, err := sumIn(stream.Trailer())
	if err == nil && sent != got.Sum {
		err = errors.New("what came is not what was sent")
	}
	return got.Sum, err
}

func (c *naiveClient) upload(ctx context.Context, job Job) (Sum, error) {
	ctx, stub := c.stub(ctx, job)
	stream, err := stub.StreamingInputCall(ctx)
	if err != nil {
		return Sum{}, err
	}
	chunks := &chunkWriter{check: job.Check, send: func(p *grpc_testing.Payload) error {
		return stream.Send(&grpc_testing.StreamingInputCallRequest{Payload: p})
	}}
	if _, err := newContent(job.Bytes).WriteTo(chunks); err != nil && !errors.Is(err, io.EOF) {
		return Sum{}, err
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		return Sum{}, err
	}
	return sumIn(stream.Trailer())
}
