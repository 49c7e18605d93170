package object

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/object/engine"
)

// early is an engine whose readers say after a few bytes that they are at the end.
type early struct{ engine.Engine }

func (e early) Open(
	ctx context.Context, name string, generation, offset, limit int64,
) (engine.Reader, error) {
	r, err := e.Engine.Open(ctx, name, generation, offset, limit)
	return &earlyReader{Reader: r}, err
}

type earlyReader struct {
	engine.Reader
	calls int
}

func (r *earlyReader) Next(p []byte, fast bool) (n int, crc32c uint32, err error) {
	if r.calls++; r.calls > 1 {
		return 0, 0, io.EOF
	}
	return r.Reader.Next(p, fast)
}

// A receiver takes the end of the stream for the end of what it has asked for.
func TestADownloadThatIsNotWholeDoesNotEndWell(t *testing.T) {
	ts := startChanged(t, telemetry.Discard(), t.TempDir(),
		func(s *service) { s.engine = early{s.engine} })
	ts.upload(t, "o", pattern(100_000))
	stream, err := ts.objects.DownloadObject(apptest.Deadline(t), whole("o"))
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		t.Fatal("it ends well")
	}
	apptest.WantStatus(t, err, codes.DataLoss, "CORRUPT")
	ts.wantNumbers(t, map[string]float64{"checksum_failures_total{store}": 1})
}
