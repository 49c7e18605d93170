package call_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"example.com/quartet/client/call"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/transfer"
	"example.com/quartet/test/process/processtest"
)

const uploadMethod = "quartet.v1.ObjectService/UploadObject"

// A proxy cuts the connection in the middle of the upload, which takes two attempts then, and a third one if what the
// first has brought is still being kept when the second begins.
func TestAResumedUploadIsOneSpanAboveItsAttempts(t *testing.T) {
	collector := newCollector(t)
	server := processtest.Start(t, append(collector.environment(), small...)...)
	proxy := newProxy(t, server.Address)
	tracer, recorder := newTracer()
	registry := prometheus.NewRegistry()
	var log bytes.Buffer
	logger, err := telemetry.New(t.Context(), "test", "test", telemetry.Config{LogFormat: "text"}, false, &log)
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t, proxy.address, call.Options{Tracer: tracer, Registerer: registry, Log: logger.Log})
	content, id, direct := random(9, 4<<20), "an-upload-that-is-cut", newClient(t, server.Address, call.Options{})
	var once sync.Once
	// What is cut on its way may never have come: the server has a span only of what it has seen.
	cut := func() {
		for committed, ctx := uint64(0), deadline(t); committed == 0; {
			state, err := direct.GetUpload(ctx, id)
			if err != nil {
				t.Error(err)
				break
			}
			committed = state.GetCommittedSizeBytes()
		}
		proxy.cutAll()
	}
	file := &countingFile{Reader: bytes.NewReader(content), when: 1 << 20, then: func() { once.Do(cut) }}
	if _, err := client.Upload(deadline(t), "o", file, call.UploadOptions{ID: id}); err != nil {
		t.Fatal(err)
	}

	whole := spans(t, recorder, "upload", 1)[0]
	if whole.Parent().IsValid() {
		t.Errorf("the upload is below %v", whole.Parent())
	}
	attempts := spans(t, recorder, uploadMethod, 2)
	resumes := len(attempts) - 1
	for _, attempt := range attempts {
		if attempt.Parent().SpanID() != whole.SpanContext().SpanID() {
			t.Errorf("an attempt is below %v", attempt.Parent())
		}
	}
	for name, want := range map[string]string{
		"quartet.object": "o", "quartet.bytes": fmt.Sprint(len(content)), "quartet.resumes": fmt.Sprint(resumes),
		"quartet.crc32c": fmt.Sprintf("%08x", transfer.Checksum(content)),
	} {
		if got := attributesOf(whole)[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if events := whole.Events(); len(events) != resumes || events[0].Name != "resume" {
		t.Errorf("events are %v", events)
	}
	for _, attempt := range collector.wait(t, uploadMethod, len(attempts)) {
		if string(attempt.GetTraceId()) != string(traceID(whole)) {
			t.Errorf("the server's side is in trace %x", attempt.GetTraceId())
		}
	}
	wantNumbers(t, registry, map[string]float64{
		"transfers_total{upload}{ok}": 1, "transfers_total{upload}{failed}": 0, "transfer_resumes_total{upload}": float64(resumes),
		"transfer_bytes_per_second{upload}": 1,
	})
	if id := whole.SpanContext().TraceID().String(); !bytes.Contains(log.Bytes(), []byte("upload interrupted")) || !bytes.Contains(log.Bytes(), []byte("trace_id="+id)) {
		t.Errorf("the log does not lead to trace %s:\n%s", id, &log)
	}
}

func traceID(span sdktrace.ReadOnlySpan) []byte {
	id := span.SpanContext().TraceID()
	return id[:]
}

func TestEveryEndOfATransferIsCountedAndTraced(t *testing.T) {
	content := []byte("the content")
	wrong := transfer.Checksum(content) + 1
	canceled, cancel := context.WithCancel(deadline(t))
	cancel()
	for what, c := range map[string]struct {
		ctx       context.Context
		checksum  uint32
		result    string
		errorType string
	}{
		"ok":       {deadline(t), transfer.Checksum(content), "ok", ""},
		"failed":   {deadline(t), wrong, "failed", "checksum mismatch"},
		"canceled": {canceled, transfer.Checksum(content), "canceled", "CANCELLED"},
	} {
		t.Run(what, func(t *testing.T) {
			tracer, recorder := newTracer()
			registry := prometheus.NewRegistry()
			client := (&liar{download: func(s grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
				return errors.Join(s.Send(object(content)), s.Send(piece(0, content, c.checksum)))
			}}).clientWith(t, call.Options{MaxTries: 3, Tracer: tracer, Registerer: registry})
			want := map[string]float64{
				"transfers_total{download}{ok}": 0, "transfers_total{download}{failed}": 0, "transfers_total{download}{canceled}": 0,
				"transfers_total{upload}{ok}": 0, "transfers_total{upload}{failed}": 0, "transfers_total{upload}{canceled}": 0,
				"transfer_resumes_total{download}": 0, "transfer_resumes_total{upload}": 0,
				"transfer_bytes_per_second{download}": 0, "transfer_bytes_per_second{upload}": 0, "exchange_rejoins_total": 0,
			}
			wantNumbers(t, registry, want)
			_, err := client.Download(c.ctx, "o", io.Discard, call.DownloadOptions{})
			if (err == nil) != (c.result == "ok") {
				t.Errorf("got %v", err)
			}
			want["transfers_total{download}{"+c.result+"}"] = 1
			if c.result == "failed" {
				want["transfer_resumes_total{download}"] = 2
			}
			wantNumbers(t, registry, want)
			span := spans(t, recorder, "download", 1)[0]
			if got := attributesOf(span)["error.type"]; got != c.errorType || (span.Status().Code == codes.Error) != (err != nil) {
				t.Errorf("error.type is %q, status %v", got, span.Status())
			}
			if got := attributesOf(span)["quartet.bytes"]; got == "" {
				t.Error("nothing says how far it came")
			}
		})
	}
}
