package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		"plain":                      "plain",
		"größer 🙂":                   "größer 🙂",
		"a\xff":                      "a\uFFFD",
		"\xff\xfe\xfd":               "\uFFFD",
		strings.Repeat("a", maxText): strings.Repeat("a", maxText),
		strings.Repeat("a", 12<<10):  strings.Repeat("a", maxText-3) + "…",
		strings.Repeat("🙂", 12<<10):  strings.Repeat("🙂", (maxText-3)/4) + "…",
		strings.Repeat("\xff", 9999): "\uFFFD…",
	} {
		if got := Text(text); got != want {
			t.Errorf("%.20q is %.20q of %d bytes, want %.20q of %d", text, got, len(got), want, len(want))
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add(strings.Repeat("\xffa", maxText/2))
	f.Add(strings.Repeat("aé\xff", maxText))
	f.Fuzz(func(t *testing.T, text string) {
		got := Text(text)
		if !isFit(got) || len(text) <= maxText && utf8.ValidString(text) && got != text {
			t.Errorf("%q is %q", text, got)
		}
	})
}

func isFit(text string) bool { return len(text) <= maxText && utf8.ValidString(text) }

// unfit are texts of which each would cost all spans of its batch.
var unfit = []string{"\xff", strings.Repeat("\xffa", 2000), strings.Repeat("é", 3000)}

// TestUnfitTextsLoseNoSpans makes calls with what neither a server nor a client may choose, among
// good ones.
func TestUnfitTextsLoseNoSpans(t *testing.T) {
	collector := collect(t, func(context.Context) error { return nil })
	server, client := exporting(t, collector), exporting(t, collector)
	s := &service{
		unary: func(ctx context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
			text := string(r.GetPayload().GetBody())
			_, span := server.Tracer.Start(
				ctx,
				text,
				trace.WithAttributes(
					attribute.String(text, text),
					attribute.StringSlice("all", []string{text}),
				),
			)
			span.AddEvent(text, trace.WithAttributes(attribute.String("text", text)))
			span.AddLink(trace.Link{Attributes: []attribute.KeyValue{attribute.String("text", text)}})
			span.End()
			server.NewMessages(ctx, text, text)
			return nil, status.Error(codes.Internal, text)
		},
	}
	p := start(t, s, server, client)
	for _, text := range unfit {
		if err := p.download(testContext(t)); err != nil {
			t.Fatal(err)
		}
		_ = p.conn.Invoke(testContext(t), "/x/"+text, &grpc_testing.Empty{}, &grpc_testing.Empty{})
		_, _ = p.stub.UnaryCall(
			testContext(t),
			&grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: []byte(text)}},
		)
	}
	p.settle()
	for name, test := range map[string]struct {
		of   *Telemetry
		want float64
	}{"server": {server, 5}, "client": {client, 3}} {
		if err := test.of.Shutdown(testContext(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := fate{exported: test.want * float64(len(unfit))}
		if got := test.of.spans.fate(); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestEveryTextOfASpanIsFit(t *testing.T) {
	for _, text := range unfit {
		stub := tracetest.SpanStub{
			Name:   text,
			Status: sdktrace.Status{Description: text},
			Attributes: []attribute.KeyValue{
				attribute.String(text, text), attribute.StringSlice("slice", []string{text}),
				{Key: "nested", Value: attribute.SliceValue(attribute.MapValue(attribute.String(text, text)))},
			},
			Events: []sdktrace.Event{
				{Name: text, Attributes: []attribute.KeyValue{attribute.String("text", text)}},
			},
			Links: []sdktrace.Link{{Attributes: []attribute.KeyValue{attribute.String("text", text)}}},
		}
		span := fitSpans([]sdktrace.ReadOnlySpan{stub.Snapshot()})[0]
		texts := []string{span.Name(), span.Status().Description, span.Events()[0].Name}
		for _, kv := range append(
			append(span.Attributes(), span.Events()[0].Attributes...),
			span.Links()[0].Attributes...,
		) {
			switch kv.Value.Type() {
			case attribute.STRINGSLICE:
				texts = append(texts, kv.Value.AsStringSlice()...)
			case attribute.SLICE:
				inner := kv.Value.AsSlice()[0].AsMap()[0]
				texts = append(texts, string(inner.Key), inner.Value.AsString())
			default:
				texts = append(texts, string(kv.Key), kv.Value.AsString())
			}
		}
		for i, text := range texts {
			if !isFit(text) {
				t.Errorf("text %d: %.20q of %d bytes", i, text, len(text))
			}
		}
	}
}

func TestEveryTextOfALogLineIsFit(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		for _, text := range unfit {
			var out bytes.Buffer
			log := newLogger(Config{LogFormat: format}, &out)
			log.With(
				"with",
				text,
			).WithGroup(
				"group",
			).Info(
				text,
				"string",
				text,
				"error",
				fmt.Errorf("because: %w", errors.New(text)),
				slog.Group("inner", "string", text),
				"nothing",
				(*failure)(nil),
			)
			if !utf8.Valid(out.Bytes()) || out.Len() > 6*maxText {
				t.Errorf("%s: %d bytes: %s", format, out.Len(), &out)
			}
		}
	}
}

type failure struct{ text string }

func (f *failure) Error() string { return f.text }

// TestALongTracestateIsLeftOut keeps a caller from filling the batches of a collector with what
// each span repeats.
func TestALongTracestateIsLeftOut(t *testing.T) {
	server, spans := recorded()
	p := start(t, &service{}, server, Discard())
	for _, size := range []int{100, 250} {
		ctx := metadata.AppendToOutgoingContext(testContext(t),
			"traceparent", "00-01000000000000000000000000000000-0200000000000000-01",
			"tracestate", fmt.Sprintf("a=%[1]s,b=%[1]s,c=%[1]s", strings.Repeat("x", size)))
		if _, err := p.stub.UnaryCall(ctx, &grpc_testing.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	p.settle()
	short, long := spans.Ended()[0], spans.Ended()[1]
	if got := short.SpanContext().TraceState().Len(); got != 3 {
		t.Errorf("a short tracestate has %d members", got)
	}
	if got := long.SpanContext().TraceState().Len(); got != 0 ||
		long.Parent().TraceID() != short.Parent().TraceID() {
		t.Errorf("a long tracestate has %d members, and the trace is %v", got, long.Parent().TraceID())
	}
}
