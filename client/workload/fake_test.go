package workload

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"example.com/quartet/client/call"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a server that is right unless it was told to twist something.
type fake struct {
	quartetv1.UnimplementedObjectServiceServer
	quartetv1.UnimplementedChannelServiceServer

	twistObject  func(*quartetv1.Object)                                           // in GetObject and UploadObject
	twistBytes   func([]byte) []byte                                               // in DownloadObject
	twistReplies func([]*quartetv1.ExchangeResponse) []*quartetv1.ExchangeResponse // to one message
	hold         chan struct{}                                                     // GetObject waits for it

	mu      sync.Mutex
	objects map[string]*quartetv1.Object
	bytes   map[string][]byte
	last    uint64
}

func (f *fake) GetObject(ctx context.Context, r *quartetv1.GetObjectRequest) (*quartetv1.GetObjectResponse, error) {
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
		}
	}
	object, _, err := f.find(r.GetName())
	if err != nil {
		return nil, err
	}
	return quartetv1.GetObjectResponse_builder{Object: f.twisted(object)}.Build(), nil
}

func (f *fake) find(name string) (*quartetv1.Object, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects[name] == nil {
		return nil, nil, status.Error(codes.NotFound, "object not found")
	}
	return f.objects[name], f.bytes[name], nil
}

func (f *fake) twisted(object *quartetv1.Object) *quartetv1.Object {
	object = proto.CloneOf(object)
	if f.twistObject != nil {
		f.twistObject(object)
	}
	return object
}

func (f *fake) DeleteObject(_ context.Context, r *quartetv1.DeleteObjectRequest) (*quartetv1.DeleteObjectResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, r.GetName())
	return &quartetv1.DeleteObjectResponse{}, nil
}

func (f *fake) DownloadObject(r *quartetv1.DownloadObjectRequest, stream grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
	object, data, err := f.find(r.GetName())
	if err != nil {
		return err
	}
	if f.twistBytes != nil {
		// The checksums are those of what is sent: only whoever knows the content can tell.
		data = f.twistBytes(append([]byte(nil), data...))
		object = proto.CloneOf(object)
		object.SetCrc32C(transfer.Checksum(data))
		object.SetSizeBytes(uint64(len(data)))
	}
	if err := stream.Send(quartetv1.DownloadObjectResponse_builder{Object: object}.Build()); err != nil {
		return err
	}
	const chunk = 1000
	for at := int(r.GetReadOffset()); at < len(data); at += chunk {
		piece := data[at:min(at+chunk, len(data))]
		err := stream.Send(quartetv1.DownloadObjectResponse_builder{Chunk: quartetv1.DownloadChunk_builder{
			Offset: uint64(at), Data: piece, Crc32C: transfer.Checksum(piece),
		}.Build()}.Build())
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) UploadObject(stream grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	var name string
	var data []byte
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if r.HasHeader() {
			name = r.GetHeader().GetName()
		}
		data = append(data, r.GetChunk().GetData()...)
	}
	object := f.keep(name, data)
	return stream.SendAndClose(quartetv1.UploadObjectResponse_builder{
		CommittedSizeBytes: uint64(len(data)), Object: f.twisted(object),
	}.Build())
}

func (f *fake) keep(name string, data []byte) *quartetv1.Object {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	f.objects[name] = quartetv1.Object_builder{
		Name: name, Generation: int64(f.last), SizeBytes: uint64(len(data)), Crc32C: transfer.Checksum(data),
	}.Build()
	f.bytes[name] = data
	return f.objects[name]
}

// Exchange is a channel with one participant, to whom each message brings itself and its receipt.
func (f *fake) Exchange(stream grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
	var join *quartetv1.Join
	var before uint64
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var replies []*quartetv1.ExchangeResponse
		if r.HasJoin() {
			join, before = r.GetJoin(), f.sequence()
			replies = append(replies, quartetv1.ExchangeResponse_builder{Joined: quartetv1.Joined_builder{
				LastSequence: before, AfterSequence: before,
			}.Build()}.Build())
		} else {
			replies = f.answer(join, before, r.GetMessage())
			before = f.sequence()
		}
		for _, reply := range replies {
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
	}
}

func (f *fake) sequence() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *fake) answer(join *quartetv1.Join, before uint64, m *quartetv1.SendMessage) []*quartetv1.ExchangeResponse {
	f.mu.Lock()
	f.last++
	sequence := f.last
	f.mu.Unlock()
	replies := []*quartetv1.ExchangeResponse{
		message(join.GetParticipant(), before, sequence, string(m.GetBody())),
		quartetv1.ExchangeResponse_builder{Receipt: quartetv1.Receipt_builder{
			MessageId: m.GetMessageId(), Sequence: sequence,
		}.Build()}.Build(),
	}
	if f.twistReplies != nil {
		replies = f.twistReplies(replies)
	}
	return replies
}

func message(participant string, before, sequence uint64, body string) *quartetv1.ExchangeResponse {
	return quartetv1.ExchangeResponse_builder{Message: quartetv1.ChannelMessage_builder{
		Participant: participant, PreviousSequence: before, Sequence: sequence, Body: []byte(body),
	}.Build()}.Build()
}

const objectBytes = 100_000

// newTest starts a fake and makes a workload that calls it, whose operations tests start by themselves or with Run.
func newTest(t *testing.T, cfg Config) (*fake, *Workload, *prometheus.Registry) {
	t.Helper()
	f := &fake{objects: map[string]*quartetv1.Object{}, bytes: map[string][]byte{}}
	server := grpc.NewServer()
	quartetv1.RegisterObjectServiceServer(server, f)
	quartetv1.RegisterChannelServiceServer(server, f)
	lis := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(lis) }() // Until the test is over.
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	cfg.ObjectBytes = objectBytes
	registry := prometheus.NewRegistry()
	w := New(call.New(conn, conn, call.Options{}), cfg, registry, slog.New(slog.NewTextHandler(t.Output(), nil)), "test")
	t.Cleanup(w.Cut)
	return f, w, registry
}

// counted is how many good and bad operations of a mode there were.
func counted(w *Workload, mode string) (good, bad float64) {
	return testutil.ToFloat64(w.counters[mode].good), testutil.ToFloat64(w.counters[mode].bad)
}
