package object

import (
	"bytes"
	"context"
	"math"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/telemetry"
)

// scarce is memory for two uploads of one caller at once.
var scarce = []string{"TEST_OBJECT_MEMORY_BYTES=12MiB", "TEST_OBJECT_MEMORY_WAIT=100ms"}

// hold begins an upload and leaves it open.
func (ts *testServer) hold(t *testing.T) heldUpload {
	t.Helper()
	stream, err := ts.objects.UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	if err := stream.Send(header(id, "held")); err != nil {
		t.Fatal(err)
	}
	return stream
}

type heldUpload = quartetv1.ObjectService_UploadObjectClient

// awaitReserved waits until what transfers have reserved is enough.
func (ts *testServer) awaitReserved(t *testing.T, enough func(int64) bool) {
	t.Helper()
	ctx := apptest.Deadline(t)
	for !enough(ts.service.memory.budget.Reserved()) {
		select {
		case <-ctx.Done():
			t.Fatalf("%d bytes are reserved", ts.service.memory.budget.Reserved())
		case <-time.After(time.Millisecond):
		}
	}
}

func TestATransferWithoutMemoryIsToldWhenToComeBack(t *testing.T) {
	ts := startServer(t, t.TempDir(), scarce...)
	ts.upload(t, "o", pattern(1000))
	first, second := ts.hold(t), ts.hold(t)
	ts.awaitReserved(t, func(n int64) bool { return n >= 2*ts.service.memory.upload })

	_, err := ts.send(t, header(uuid.NewString(), "third"), chunk(0, pattern(10)))
	apptest.WantStatus(t, err, codes.ResourceExhausted, "OVERLOADED")
	var retry *errdetails.RetryInfo
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			retry = info
		}
	}
	if d := retry.GetRetryDelay().AsDuration(); d < 100*time.Millisecond || d > 10*time.Second {
		t.Errorf("the delay to come back after is %s", d)
	}

	for _, stream := range []heldUpload{first, second} {
		if _, err := stream.CloseAndRecv(); err != nil {
			t.Error(err)
		}
	}
	ts.awaitReserved(t, func(n int64) bool { return n == 0 })
	ts.upload(t, "third", pattern(1000))
}

func TestATransferWaitsForMemory(t *testing.T) {
	ts := startServer(t, t.TempDir(), scarce[0], "TEST_OBJECT_MEMORY_WAIT=30s")
	first, _ := ts.hold(t), ts.hold(t)
	ts.awaitReserved(t, func(n int64) bool { return n >= 2*ts.service.memory.upload })
	done := make(chan error, 1)
	content := pattern(1000)
	go func() {
		_, err := ts.send(t, header(uuid.NewString(), "third"), chunk(0, content), finish(content))
		done <- err
	}()
	for ts.service.memory.waiting() == 0 {
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	if _, err := first.CloseAndRecv(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A sender that opens a stream and says nothing holds no memory, and does not keep it from others.
func TestAnUploadThatHasNotBegunHoldsNoMemory(t *testing.T) {
	ts := startServer(t, t.TempDir(), scarce...)
	for range 10 {
		if _, err := ts.objects.UploadObject(apptest.Deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	ts.upload(t, "o", pattern(1000))
	ts.awaitReserved(t, func(n int64) bool { return n == 0 })
}

func TestACallerLeavesMemoryToOthers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux are all addresses of 127.0.0.0/8 there")
	}
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_MEMORY_BYTES=32MiB",
		"TEST_OBJECT_MEMORY_WAIT=100ms")
	for ended := error(nil); ended == nil; {
		stream := ts.hold(t)
		done := make(chan error, 1)
		go func() { done <- stream.RecvMsg(&quartetv1.UploadObjectResponse{}) }()
		select {
		case ended = <-done:
			apptest.WantStatus(t, ended, codes.ResourceExhausted, "OVERLOADED")
		case <-time.After(200 * time.Millisecond): // It is not refused.
		}
	}
	stream, err := quartetv1.NewObjectServiceClient(dialFrom(t, "127.0.0.2",
		ts.Conn.Target())).UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	content := pattern(1000)
	for _, m := range []*quartetv1.UploadObjectRequest{header(uuid.NewString(), "other"),
		chunk(0, content), finish(content)} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		t.Errorf("another caller: %v", err)
	}
}

// dialFrom connects from an address of the loopback network.
func dialFrom(t *testing.T, from, to string) *grpc.ClientConn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := grpc.NewClient(to, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Readers that read nothing hold little while there are many of them, so that all are served.
func TestManySlowReadersFitIntoLittleMemory(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_MEMORY_BYTES=48MiB", "TEST_OBJECT_CHUNK_BYTES=1MiB",
		"TEST_OBJECT_PART_BYTES=8MiB")
	content := pattern(4 << 20)
	ts.upload(t, "o", content)
	streams := make([]quartetv1.ObjectService_DownloadObjectClient, 200)
	for i := range streams {
		var err error
		if streams[i], err = ts.objects.DownloadObject(apptest.Deadline(t), whole("o")); err != nil {
			t.Fatal(err)
		}
		if _, err := streams[i].Recv(); err != nil {
			t.Fatalf("reader %d: %v", i, err)
		}
	}
	if used, limit := ts.service.memory.budget.Reserved(), int64(48<<20); used > limit {
		t.Errorf("%d bytes are reserved of %d", used, limit)
	}
	ts.upload(t, "beside them", content)
	var got bytes.Buffer
	for int64(got.Len()) < int64(len(content)) {
		reply, err := streams[len(streams)-1].Recv()
		if err != nil {
			t.Fatal(err)
		}
		got.Write(reply.GetChunk().GetData())
	}
	if !bytes.Equal(got.Bytes(), content) {
		t.Error("the content differs")
	}
}

// A download whose reader takes nothing ends, and its memory is free when gRPC has let go of it.
func TestAnUnreadDownloadKeepsItsMemoryAsLongAsItTakesIt(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_RPC_SEND_TIMEOUT=3s", "TEST_OBJECT_CALLER_TRANSFERS=1")
	ts.upload(t, "o", pattern(8<<20))
	unread := quartetv1.NewObjectServiceClient(dialFrom(t, "127.0.0.1", ts.Conn.Target()))
	if _, err := unread.DownloadObject(apptest.Deadline(t), whole("o")); err != nil {
		t.Fatal(err)
	}
	apptest.Eventually(t, func() bool {
		families, err := ts.Telemetry.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			for _, m := range family.GetMetric() {
				if family.GetName() == "grpc_server_handled_total" && m.GetCounter().GetValue() > 0 &&
					strings.Contains(m.String(), "DeadlineExceeded") {
					return true
				}
			}
		}
		return false
	}, func() string { return "the download did not end" })
	if n := ts.service.memory.budget.Reserved(); n == 0 {
		t.Error("its memory is free while gRPC has it")
	}
	_, _, err := ts.download(t, whole("o"))
	apptest.WantStatus(t, err, codes.ResourceExhausted, "OVERLOADED")
	ts.awaitReserved(t, func(n int64) bool { return n == 0 })
	if _, _, err := ts.download(t, whole("o")); err != nil {
		t.Error(err)
	}
}

func TestMemoryThatIsTooLittleForOneTransferIsAProblemOfTheConfiguration(t *testing.T) {
	t.Cleanup(func() { debug.SetMemoryLimit(math.MaxInt64) })
	for _, test := range []struct {
		goMemory int64
		bytes    string
	}{
		{math.MaxInt64, "1"}, {math.MaxInt64, "100"}, {math.MaxInt64, "100000"}, {math.MaxInt64, "1MiB"},
		{0, ""}, {1, ""}, {1000, ""}, {100_000, ""}, {1 << 20, ""},
	} {
		debug.SetMemoryLimit(test.goMemory)
		server := app.Server{Identity: apptest.Identity, Services: []app.Service{Service()}}
		_, err := server.Open(t.Context(), apptest.Environ(environment(t.TempDir(),
			"TEST_OBJECT_MEMORY_BYTES="+test.bytes)...), telemetry.Discard())
		if err == nil || !config.IsProblem(err) || !strings.HasPrefix(err.Error(),
			"TEST_OBJECT_MEMORY_BYTES: ") {
			t.Errorf("%q of %d: got %v", test.bytes, test.goMemory, err)
		}
	}
}
