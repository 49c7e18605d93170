package object

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/telemetry/telemetrytest"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	sampled = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// lineOf is the first line of a log with this text, as JSON.
func lineOf(log *telemetrytest.Log, text string) map[string]any {
	for line := range strings.Lines(log.String()) {
		var fields map[string]any
		if strings.Contains(line, text) && json.Unmarshal([]byte(line), &fields) == nil {
			return fields
		}
	}
	return nil
}

func TestAnUploadThatFailsIsLoggedWithItsTraceAndWithWhatTheSenderIsNotTold(t *testing.T) {
	var log telemetrytest.Log
	tele := telemetry.New(telemetry.Identity{Namespace: "test", Service: "test", Version: "test"},
		telemetry.Config{LogFormat: "json"}, &log)
	dir := t.TempDir()
	ts := startObserved(t, tele, dir)
	// The folder of the uploads becomes a file, which no permission lets a process write into.
	uploads := filepath.Join(dir, "uploads")
	apptest.Eventually(t, func() bool { // The check of the store may make the folder again in between.
		return os.RemoveAll(uploads) == nil && os.WriteFile(uploads, nil, 0o600) == nil
	}, func() string { return "the folder cannot be replaced" })
	ctx := metadata.AppendToOutgoingContext(apptest.Deadline(t), "traceparent", sampled)
	stream, err := ts.objects.UploadObject(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(header("an-upload-id-of-the-test", "o")) // The answer says why.
	_, err = stream.CloseAndRecv()
	apptest.WantStatus(t, err, codes.Internal, "")
	if strings.Contains(err.Error(), uploads) {
		t.Errorf("the sender is told %v", err)
	}
	apptest.Eventually(t, func() bool { return lineOf(&log, "UploadObject") != nil },
		func() string { return "the call is not in the log" })
	line := lineOf(&log, "UploadObject")
	if cause, _ := line["cause"].(string); line["trace_id"] != traceID ||
		!strings.Contains(cause, uploads) {
		t.Errorf("logged: %v", line)
	}
}
