package object

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
)

// The bare variant is the limit of what grpc-go can do: our codec, chunks, buffers and windows, and
// nothing else, no store, no checksum, no instrumentation, with content that never leaves the
// processor's cache.

// bareServer gives and takes chunks.
type bareServer struct {
	quartetv1.UnimplementedObjectServiceServer
}

func newBareServer() (*grpc.Server, error) {
	cfg, err := config.Defaults[rpc.ServerConfig]()
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(bulk.Codec{}),
		grpc.WriteBufferSize(cfg.BufferBytes), grpc.ReadBufferSize(cfg.BufferBytes),
		grpc.StaticStreamWindowSize(cfg.StreamWindowBytes),
		grpc.StaticConnWindowSize(8*cfg.StreamWindowBytes))
	quartetv1.RegisterObjectServiceServer(server, bareServer{})
	return server, nil
}

// DownloadObject sends a content.
func (bareServer) DownloadObject(
	_ *quartetv1.DownloadObjectRequest, stream grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse],
) error {
	job, err := jobOf(stream.Context())
	if err != nil {
		return err
	}
	return sendContent(job.Bytes, func(offset int64, data []byte) error {
		chunk := quartetv1.DownloadChunk_builder{Offset: uint64(offset), Data: data}.Build()
		return stream.SendMsg(frameOf(quartetv1.DownloadObjectResponse_builder{Chunk: chunk}.Build(), data))
	})
}

// UploadObject counts what comes.
func (bareServer) UploadObject(stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	got := &sink{check: true}
	if job, err := jobOf(stream.Context()); err != nil || !job.Check {
		got.check = false
	}
	for {
		message := new(quartetv1.UploadObjectRequest)
		frame := bulk.Message{Message: message}
		err := stream.RecvMsg(&frame)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		got.take(&frame, message.GetChunk().GetData())
	}
	stream.SetTrailer(got.metadata())
	return stream.SendAndClose(&quartetv1.UploadObjectResponse{})
}

// sendContent sends a content by the block, which is never changed, so that it need not be waited
// for.
func sendContent(size int64, send func(offset int64, data []byte) error) error {
	c := newContent(size)
	for c.at < size {
		offset := c.at
		if err := send(offset, c.next(int64(len(block)))); err != nil {
			return err
		}
	}
	return nil
}

func frameOf(m proto.Message, data []byte) *bulk.Message {
	return &bulk.Message{Message: m, Bulk: mem.BufferSlice{mem.SliceBuffer(data)}}
}

func (s *sink) take(frame *bulk.Message, field []byte) {
	for _, piece := range frame.Pieces(field) {
		_, _ = s.Write(piece) // A sink takes everything.
	}
	frame.Free()
}

// bareClient is the other end.
type bareClient struct {
	alike
	conn *grpc.ClientConn
}

func newBareClient(address string) (*bareClient, error) {
	cfg, err := config.Defaults[rpc.ClientConfig]()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bulk.Codec{}), grpc.MaxRetryRPCBufferSize(0)),
		grpc.WithWriteBufferSize(cfg.BufferBytes), grpc.WithReadBufferSize(cfg.BufferBytes),
		grpc.WithStaticStreamWindowSize(cfg.StreamWindowBytes),
		grpc.WithStaticConnWindowSize(8*cfg.StreamWindowBytes))
	return &bareClient{conn: conn}, err
}

func (c *bareClient) close() { _ = c.conn.Close() } // It fails only if it is closed already.

func (c *bareClient) stub(ctx context.Context, job Job) (context.Context, quartetv1.ObjectServiceClient) {
	return metadata.AppendToOutgoingContext(ctx, jobKey, job.String()), quartetv1.NewObjectServiceClient(c.conn)
}

func (c *bareClient) download(ctx context.Context, job Job) (Sum, error) {
	ctx, stub := c.stub(ctx, job)
	stream, err := stub.DownloadObject(ctx, &quartetv1.DownloadObjectRequest{})
	if err != nil {
		return Sum{}, err
	}
	got := &sink{check: job.Check}
	for {
		message := new(quartetv1.DownloadObjectResponse)
		frame := bulk.Message{Message: message}
		err := stream.RecvMsg(&frame)
		if errors.Is(err, io.EOF) {
			return got.Sum, nil
		}
		if err != nil {
			return Sum{}, err
		}
		got.take(&frame, message.GetChunk().GetData())
	}
}

func (c *bareClient) upload(ctx context.Context, job Job) (Sum, error) {
	ctx, stub := c.stub(ctx, job)
	stream, err := stub.UploadObject(ctx)
	if err != nil {
		return Sum{}, err
	}
	err = sendContent(job.Bytes, func(offset int64, data []byte) error {
		chunk := quartetv1.UploadChunk_builder{Offset: uint64(offset), Data: data}.Build()
		return stream.SendMsg(frameOf(quartetv1.UploadObjectRequest_builder{Chunk: chunk}.Build(), data))
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return Sum{}, err
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		return Sum{}, err
	}
	return sumIn(stream.Trailer())
}
