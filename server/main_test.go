package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/lifecycle"
	"example.com/quartet/internal/telemetry"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testServer is the whole server as main assembles it, on loopback ports of its own, with a client that has no
// interceptors, retries or resumes: what it sees is what the server does.
type testServer struct {
	*server
	conn     *grpc.ClientConn
	objects  quartetv1.ObjectServiceClient
	channels quartetv1.ChannelServiceClient
	// stop drains the server as SIGTERM does, and returns what its run returned. It may be called more than once.
	stop func() error
}

// environment is what the tests run with: part and chunk sizes that make a few hundred kilobytes a big file.
func environment(dir string, more ...string) []string {
	return append([]string{
		"QUARTET_GRPC_ADDRESS=127.0.0.1:0",
		"QUARTET_PROBE_ADDRESS=127.0.0.1:0",
		"QUARTET_HTTP_ADDRESS=127.0.0.1:0",
		"QUARTET_DATA_DIR=" + dir,
		"QUARTET_OBJECTS_PART_BYTES=64KiB",
		"QUARTET_OBJECTS_CHUNK_BYTES=16KiB",
		"QUARTET_DRAIN_DELAY=0s",
		"QUARTET_DRAIN_TIMEOUT=2s",
	}, more...)
}

func startServer(t *testing.T, dir string, env ...string) *testServer {
	t.Helper()
	return startObserved(t, telemetry.Discard(), dir, env...)
}

// startObserved starts a server whose metrics, spans or log the test looks at.
func startObserved(t *testing.T, tele *telemetry.Telemetry, dir string, env ...string) *testServer {
	t.Helper()
	s := openServer(t, tele, dir, env...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s.ready()
	go func() { ended <- lifecycle.Run(ctx, tele.Log, s.services(), s.drain()) }()
	conn, err := grpc.NewClient(s.grpc.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	ts := &testServer{server: s, conn: conn, objects: quartetv1.NewObjectServiceClient(conn), channels: quartetv1.NewChannelServiceClient(conn)}
	ts.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		_ = conn.Close()
		if err := ts.stop(); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return ts
}

func openServer(t *testing.T, tele *telemetry.Telemetry, dir string, env ...string) *server {
	t.Helper()
	cfg, err := config.Load[Config](environment(dir, env...))
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), cfg, tele)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// deadline is a context for calls that must not hang a test.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// wantStatus checks the code of an error and the reason in its details, and returns the metadata beside it.
func wantStatus(t *testing.T, err error, code codes.Code, reason string) map[string]string {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want code %v", err, code)
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			if info.GetReason() != reason || info.GetDomain() != "quartet" {
				t.Fatalf("got reason %s of %s, want %s of quartet: %v", info.GetReason(), info.GetDomain(), reason, err)
			}
			return info.GetMetadata()
		}
	}
	if reason != "" {
		t.Fatalf("got %v without a reason, want %s", err, reason)
	}
	return nil
}

func TestWrongConfigurationListsEveryProblemAndExitsWith2(t *testing.T) {
	var stderr bytes.Buffer
	got := run(nil, []string{
		"QUARTET_OBJECTS_PART_BYTES=many",
		"QUARTET_DRAIN_TIMEOUT=-1s",
		"QUARTET_GRPC_ADRESS=:1",
	}, &stderr, &stderr)
	if got != 2 {
		t.Errorf("exit status %d, want 2", got)
	}
	for _, name := range []string{"QUARTET_OBJECTS_PART_BYTES", "QUARTET_DRAIN_TIMEOUT", "QUARTET_GRPC_ADRESS"} {
		if !strings.Contains(stderr.String(), name) {
			t.Errorf("%s is not named in:\n%s", name, &stderr)
		}
	}
}

func TestArgumentsThatMeanNothingExitWith2(t *testing.T) {
	var stderr bytes.Buffer
	if got := run([]string{"--port=1"}, nil, &stderr, &stderr); got != 2 || !strings.Contains(stderr.String(), "--port=1") {
		t.Errorf("exit status %d, want 2, and:\n%s", got, &stderr)
	}
}

func TestAPortThatIsTakenIsNamedAndExitsWith1(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var stderr bytes.Buffer
	got := run(nil, environment(t.TempDir(), "QUARTET_GRPC_ADDRESS="+taken.Addr().String()), &stderr, &stderr)
	if got != 1 || !strings.Contains(stderr.String(), taken.Addr().String()) {
		t.Errorf("exit status %d, want 1 and %s in:\n%s", got, taken.Addr(), &stderr)
	}
}

func TestADataFolderThatCannotBeWrittenIsNamedAndExitsWith1(t *testing.T) {
	// A folder inside a file: not even root can write there.
	dir := filepath.Join("main_test.go", "data")
	var stderr bytes.Buffer
	if got := run(nil, environment(dir), &stderr, &stderr); got != 1 || !strings.Contains(stderr.String(), dir) {
		t.Errorf("exit status %d, want 1 and %s in:\n%s", got, dir, &stderr)
	}
}

func TestHelpNamesEveryVariable(t *testing.T) {
	var stdout bytes.Buffer
	if got := run([]string{"--help"}, nil, &stdout, &stdout); got != 0 {
		t.Errorf("exit status %d, want 0", got)
	}
	for _, v := range config.Usage[Config]() {
		if !strings.Contains(stdout.String(), v.Name) || v.Description == "" {
			t.Errorf("%s is not explained", v.Name)
		}
	}
}

// pattern is content that differs at every offset, so that bytes in a wrong place are noticed.
func pattern(n int) []byte {
	content := make([]byte, 0, n+16)
	for i := 0; len(content) < n; i++ {
		content = fmt.Appendf(content, "%d,", i)
	}
	return content[:n]
}
