package channel

import (
	"testing"

	"go.uber.org/goleak"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testServer is the host with this service alone, and a client of it without any comfort.
type testServer struct {
	*apptest.Server
	channels quartetv1.ChannelServiceClient
}

func startServer(t testing.TB, dir string) *testServer {
	t.Helper()
	return startObserved(t, telemetry.Discard(), dir)
}

// startObserved starts a server whose metrics, spans or log the test looks at.
func startObserved(t testing.TB, tele *telemetry.Telemetry, dir string) *testServer {
	t.Helper()
	s := apptest.Start(t, tele, []app.Service{Service()}, "TEST_CHANNEL_DIR="+dir)
	return &testServer{s, quartetv1.NewChannelServiceClient(s.Conn)}
}

// wantNumbers waits for the numbers, since a server counts after it has answered.
func (ts *testServer) wantNumbers(t *testing.T, want map[string]float64) {
	t.Helper()
	apptest.WantNumbers(t, ts.Telemetry, want)
}
