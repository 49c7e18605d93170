package object_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process/processtest"
)

const uploadMethod = "quartet.v1.ObjectService/UploadObject"

// A proxy cuts the connection in the middle of the upload, which takes two attempts then, and a
// third one if what the first has brought is still being kept when the second begins.
func TestAResumedUploadIsOneSpanAboveItsAttempts(t *testing.T) {
	collector := clienttest.NewCollector(t)
	server := processtest.Start(t, collector.Environment(small...)...)
	proxy := clienttest.NewProxy(t, server.Address)
	traced, recorder := clienttest.Traced()
	var log bytes.Buffer
	tele := telemetry.New(telemetry.Identity{Namespace: "test", Service: "test"},
		telemetry.Config{LogFormat: "text"}, &log)
	tele.Tracer = traced.Tracer
	client := newClient(t, proxy.Address, object.Options{Telemetry: tele})
	content, id, direct := clienttest.Random(9, 4<<20), "an-upload-that-is-cut",
		newClient(t, server.Address, object.Options{})
	var once sync.Once
	// What is cut on its way may never have come: the server has a span only of what it has seen.
	cut := func() {
		for committed, ctx := uint64(0), clienttest.Deadline(t); committed == 0; {
			state, err := direct.GetUpload(ctx, id)
			if err != nil {
				t.Error(err)
				break
			}
			committed = state.GetCommittedSizeBytes()
		}
		proxy.CutAll()
	}
	file := &countingFile{Reader: bytes.NewReader(content), when: 1 << 20,
		then: func() { once.Do(cut) }}
	if _, err := client.Upload(clienttest.Deadline(t), "o", file,
		object.UploadOptions{ID: id}); err != nil {
		t.Fatal(err)
	}

	whole := clienttest.Spans(t, recorder, "upload", 1)[0]
	if whole.Parent().IsValid() {
		t.Errorf("the upload is below %v", whole.Parent())
	}
	attempts := clienttest.Spans(t, recorder, uploadMethod, 2)
	resumes := len(attempts) - 1
	for _, attempt := range attempts {
		if attempt.Parent().SpanID() != whole.SpanContext().SpanID() {
			t.Errorf("an attempt is below %v", attempt.Parent())
		}
	}
	for name, want := range map[string]string{
		"test.object": "o", "test.bytes": fmt.Sprint(len(content)), "test.resumes": fmt.Sprint(resumes),
		"test.crc32c": fmt.Sprintf("%08x", crc32c.Checksum(content)),
	} {
		if got := clienttest.Attributes(whole)[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if events := whole.Events(); len(events) != resumes || events[0].Name != "resume" {
		t.Errorf("events are %v", events)
	}
	for _, attempt := range collector.Wait(t, uploadMethod, len(attempts)) {
		if string(attempt.GetTraceId()) != string(traceID(whole)) {
			t.Errorf("the server's side is in trace %x", attempt.GetTraceId())
		}
	}
	clienttest.WantNumbers(t, tele, map[string]float64{
		"client_transfers_total{upload}{ok}":       1,
		"client_transfers_total{upload}{failed}":   0,
		"client_transfer_resumes_total{upload}":    float64(resumes),
		"client_transfer_bytes_per_second{upload}": 1,
	})
	if id := whole.SpanContext().TraceID().String(); !bytes.Contains(log.Bytes(),
		[]byte("upload interrupted")) || !bytes.Contains(log.Bytes(), []byte("trace_id="+id)) {
		t.Errorf("the log does not lead to trace %s:\n%s", id, &log)
	}
}

func traceID(span sdktrace.ReadOnlySpan) []byte {
	id := span.SpanContext().TraceID()
	return id[:]
}

func TestEveryEndOfATransferIsCountedAndTraced(t *testing.T) {
	content := []byte("the content")
	wrong := crc32c.Checksum(content) + 1
	canceled, cancel := context.WithCancel(clienttest.Deadline(t))
	cancel()
	for what, c := range map[string]struct {
		ctx       context.Context
		checksum  uint32
		result    string
		errorType string
	}{
		"ok":       {clienttest.Deadline(t), crc32c.Checksum(content), "ok", ""},
		"failed":   {clienttest.Deadline(t), wrong, "failed", "checksum mismatch"},
		"canceled": {canceled, crc32c.Checksum(content), "canceled", "CANCELLED"},
	} {
		t.Run(what, func(t *testing.T) {
			tele, recorder := clienttest.Traced()
			client := (&faulty{download: func(s grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
				return errors.Join(s.Send(info(content)), s.Send(piece(0, content, c.checksum)))
			}}).clientWith(t, object.Options{Resumption: rpc.Resumption{MaxTries: 3}, Telemetry: tele})
			want := map[string]float64{
				"client_transfers_total{download}{ok}":       0,
				"client_transfers_total{download}{failed}":   0,
				"client_transfers_total{download}{canceled}": 0,
				"client_transfers_total{upload}{ok}":         0, "client_transfers_total{upload}{failed}": 0,
				"client_transfers_total{upload}{canceled}": 0,
				"client_transfer_resumes_total{download}":  0, "client_transfer_resumes_total{upload}": 0,
				"client_transfer_bytes_per_second{download}": 0,
				"client_transfer_bytes_per_second{upload}":   0,
			}
			clienttest.WantNumbers(t, tele, want)
			_, err := client.Download(c.ctx, "o", io.Discard, object.DownloadOptions{})
			if (err == nil) != (c.result == "ok") {
				t.Errorf("got %v", err)
			}
			want["client_transfers_total{download}{"+c.result+"}"] = 1
			if c.result == "failed" {
				want["client_transfer_resumes_total{download}"] = 2
			}
			clienttest.WantNumbers(t, tele, want)
			span := clienttest.Spans(t, recorder, "download", 1)[0]
			if got := clienttest.Attributes(span)["error.type"]; got != c.errorType ||
				(span.Status().Code == codes.Error) != (err != nil) {
				t.Errorf("error.type is %q, status %v", got, span.Status())
			}
			if got := clienttest.Attributes(span)["test.bytes"]; got == "" {
				t.Error("nothing says how far it came")
			}
		})
	}
}
