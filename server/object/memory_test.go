package object

import (
	"bytes"
	"math"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/telemetry"
)

// scarce is memory for two uploads at once.
var scarce = []string{"TEST_OBJECT_MEMORY_BYTES=6MiB", "TEST_OBJECT_MEMORY_WAIT=100ms"}

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
	for ts.service.memory.budget.Waiting() == 0 {
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

// A sender that opens a stream and says nothing holds memory too, but not for long.
func TestAnUploadThatNeverBeginsGivesItsMemoryBack(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_IDLE_TIMEOUT=50ms")
	stream, err := ts.objects.UploadObject(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	apptest.WantStatus(t, stream.RecvMsg(&quartetv1.UploadObjectResponse{}), codes.DeadlineExceeded, "IDLE")
	ts.awaitReserved(t, func(n int64) bool { return n == 0 })
}

// Readers that read nothing hold little while there are many of them, so that all are served.
func TestManySlowReadersFitIntoLittleMemory(t *testing.T) {
	ts := startServer(t, t.TempDir(), "TEST_OBJECT_MEMORY_BYTES=48MiB", "TEST_OBJECT_CHUNK_BYTES=1MiB", "TEST_OBJECT_PART_BYTES=8MiB")
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
		_, err := server.Open(t.Context(), apptest.Environ(environment(t.TempDir(), "TEST_OBJECT_MEMORY_BYTES="+test.bytes)...), telemetry.Discard())
		if err == nil || !config.IsProblem(err) || !strings.HasPrefix(err.Error(), "TEST_OBJECT_MEMORY_BYTES: ") {
			t.Errorf("%q of %d: got %v", test.bytes, test.goMemory, err)
		}
	}
}
