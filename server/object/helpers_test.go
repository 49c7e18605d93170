package object

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/object/s3/s3test"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testServer is the host with this service alone, and a generated client of it.
type testServer struct {
	*apptest.Server
	objects quartetv1.ObjectServiceClient
	service *service // what answers
}

// environment has part and chunk sizes that make a few hundred kilobytes a big file.
func environment(dir string, more ...string) []string {
	return append([]string{"TEST_OBJECT_DIR=" + dir, "TEST_OBJECT_PART_BYTES=64KiB",
		"TEST_OBJECT_CHUNK_BYTES=16KiB"}, more...)
}

func startServer(t testing.TB, dir string, env ...string) *testServer {
	t.Helper()
	return startObserved(t, telemetry.Discard(), dir, env...)
}

// starts has a way to start a server for each engine.
var starts = map[string]func(t *testing.T, env ...string) *testServer{
	"folder": func(t *testing.T, env ...string) *testServer {
		return startServer(t, t.TempDir(), env...)
	},
	"S3": func(t *testing.T, env ...string) *testServer {
		for name, value := range map[string]string{
			"AWS_ACCESS_KEY_ID": "quartet", "AWS_SECRET_ACCESS_KEY": "a-secret-for-tests",
			"AWS_EC2_METADATA_DISABLED": "true",
		} {
			t.Setenv(name, value)
		}
		service := httptest.NewServer(s3test.New())
		t.Cleanup(service.Close)
		url := s3test.URL(service.Listener.Addr().String(), s3test.Bucket)
		return startServer(t, t.TempDir(), append([]string{"TEST_OBJECT_URL=" + url,
			"TEST_OBJECT_MAX_BYTES=64MiB"}, env...)...)
	},
}

// startObserved starts a server whose metrics, spans or log the test looks at.
func startObserved(t testing.TB, tele *telemetry.Telemetry, dir string, env ...string) *testServer {
	t.Helper()
	return startChanged(t, tele, dir, func(*service) {}, env...)
}

// startChanged starts a server after a change to what answers.
func startChanged(
	t testing.TB, tele *telemetry.Telemetry, dir string, change func(*service), env ...string,
) *testServer {
	t.Helper()
	ts := &testServer{}
	guest := Service()
	open := guest.Open
	guest.Open = func(ctx context.Context, host app.Host) (app.Opened, error) {
		opened, err := open(ctx, host)
		if err == nil {
			opened.Register(registrar{ts})
			change(ts.service)
		}
		return opened, err
	}
	ts.Server = apptest.Start(t, tele, []app.Service{guest}, environment(dir, env...)...)
	ts.objects = quartetv1.NewObjectServiceClient(ts.Conn)
	return ts
}

// registrar notes the implementation.
type registrar struct{ ts *testServer }

func (r registrar) RegisterService(_ *grpc.ServiceDesc, impl any) { r.ts.service = impl.(*service) }

// wantNumbers waits for the numbers, since a server counts after it has answered.
func (ts *testServer) wantNumbers(t *testing.T, want map[string]float64) {
	t.Helper()
	apptest.WantNumbers(t, ts.Telemetry, want)
}

// pattern is content that differs at every offset, so that bytes in a wrong place are noticed.
func pattern(n int) []byte {
	content := make([]byte, 0, n+16)
	for i := 0; len(content) < n; i++ {
		content = fmt.Appendf(content, "%d,", i)
	}
	return content[:n]
}
