package call_test

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/client/call"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process/processtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		processtest.Clean()
		os.Exit(status)
	}))
}

// small has the server commit parts of 256 KiB, so that a file of a megabyte has several.
var small = []string{"QUARTET_OBJECTS_PART_BYTES=256KiB", "QUARTET_OBJECTS_CHUNK_BYTES=32KiB"}

// impatient connects again at once, where a program would wait a second first.
var impatient = grpc.WithConnectParams(grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
	MinConnectTimeout: 5 * time.Second,
})

// newClient makes a client as the programs do, with less patience between tries.
func newClient(t *testing.T, address string, options call.Options) *call.Client {
	t.Helper()
	cfg, err := config.Load[struct {
		RPC rpc.ClientConfig `envPrefix:"RPC_"`
	}](nil)
	if err != nil {
		t.Fatal(err)
	}
	if options.ChunkBytes == 0 {
		options.ChunkBytes = 32 << 10
	}
	if options.RetryDelay == 0 {
		options.RetryDelay = time.Millisecond
	}
	tele := telemetry.Discard()
	if options.Tracer != nil {
		tele.Tracer = options.Tracer
	}
	connect := func(service protoreflect.ServiceDescriptor) *grpc.ClientConn {
		conn, err := rpc.NewClient(cfg.RPC, tele, address, service, impatient)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	return call.New(
		connect(quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService")),
		connect(quartetv1.File_quartet_v1_channel_proto.Services().ByName("ChannelService")),
		options)
}

// deadline is a context for calls that must not hang a test.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// random is content that is the same for the same seed.
func random(seed byte, size int) []byte {
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(content) // It never fails.
	return content
}
