package telemetry

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// maxText is the most bytes that a text from outside may have. A status message of this length,
// percent-encoded and with its copy in the details, still fits into the 8 KiB of headers that some
// clients take; and 512 spans, which are a batch, fit into the 4 MiB that a collector takes.
const maxText = 1024

// maxMethod is the most bytes that the name of an unknown method may have.
const maxMethod = 64

// Text makes a text fit for spans, log lines and statuses: it is valid UTF-8 and has at most 1024
// bytes. Names of methods, messages of peers and the like may be anything, and one that is not
// UTF-8 makes the exporter drop all spans of its batch.
//
// It is applied where a text leaves: to spans before their export, to log lines, and by rpc to
// statuses.
func Text(text string) string { return fit(text, maxText) }

// MethodName makes the name of a method that is not known fit: it has no control characters and at
// most 64 bytes.
func MethodName(name string) string { return fit(printable(fit(name, maxMethod)), maxMethod) }

// fit cuts a text that is longer than most bytes, at the beginning of a character, ends it with …
// and replaces what is not UTF-8.
func fit(text string, most int) string {
	if len(text) <= most && utf8.ValidString(text) {
		return text
	}
	// It is cut first: a text may have megabytes, of which only the beginning is looked at.
	valid := strings.ToValidUTF8(text[:min(len(text), most)], string(utf8.RuneError))
	// U+FFFD takes three bytes where one was wrong, so that the text may have grown too long.
	if len(text) <= most && len(valid) <= most {
		return valid
	}
	// It shows that there was more, within the limit.
	const more = "…"
	end := min(len(valid), most-len(more))
	for end < len(valid) && !utf8.RuneStart(valid[end]) {
		end--
	}
	return valid[:end] + more
}

// printable puts U+FFFD in place of what a log handler would escape with many characters for each.
// A line has at most twice the bytes of its texts then.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) || r == '\n' || r == '\t' {
			return r
		}
		return utf8.RuneError
	}, text)
}

// userInfo is what stands before the host in addresses. Up to the last @, because a password may
// have some that should have been escaped.
var userInfo = regexp.MustCompile(`://[^"\n]*@`)

// privateKey is one, where the name of its file was expected.
var privateKey = regexp.MustCompile(`(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*`)

// Redacted is a text without users and passwords of addresses, and without private keys. Our own
// texts have none; this is for those of libraries, which may have the whole of an address that is
// malformed, or of a key in place of its file's name.
func Redacted(text string) string {
	if strings.Contains(text, "://") {
		text = userInfo.ReplaceAllLiteralString(text, "://***@")
	}
	if strings.Contains(text, "-----BEGIN ") {
		text = privateKey.ReplaceAllString(text, "$1***")
	}
	return text
}

// lineText makes a text fit for a log line, whose handler escapes it, and is the only one to do so.
// Secrets go before it is cut: half of an address shows no longer what is one.
func lineText(text string) string { return Text(printable(Text(Redacted(text)))) }

// fitLine has a log handler apply lineText to strings and errors.
func fitLine(_ []string, attr slog.Attr) slog.Attr {
	switch attr.Value.Kind() {
	case slog.KindString:
		attr.Value = slog.StringValue(lineText(attr.Value.String()))
	case slog.KindAny:
		if err, ok := attr.Value.Any().(error); ok {
			attr.Value = slog.StringValue(lineText(fmt.Sprint(err)))
		}
	default: // A number, or something of our own.
	}
	return attr
}

// fitSpan is a span as it is exported.
type fitSpan struct{ sdktrace.ReadOnlySpan }

// fitSpans wraps the spans of a batch. The texts are made fit when the exporter reads them.
func fitSpans(batch []sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	fit := make([]sdktrace.ReadOnlySpan, len(batch))
	for i, span := range batch {
		fit[i] = fitSpan{span}
	}
	return fit
}

// Name implements sdktrace.ReadOnlySpan.
func (s fitSpan) Name() string { return Text(s.ReadOnlySpan.Name()) }

// Attributes implements sdktrace.ReadOnlySpan.
func (s fitSpan) Attributes() []attribute.KeyValue {
	return fitAttributes(s.ReadOnlySpan.Attributes())
}

// Status implements sdktrace.ReadOnlySpan.
func (s fitSpan) Status() sdktrace.Status {
	st := s.ReadOnlySpan.Status()
	st.Description = Text(st.Description)
	return st
}

// Events implements sdktrace.ReadOnlySpan.
func (s fitSpan) Events() []sdktrace.Event {
	// What the span returns is its own, and other processors may read it at the same time.
	events := slices.Clone(s.ReadOnlySpan.Events())
	for i := range events {
		events[i].Name, events[i].Attributes = Text(events[i].Name), fitAttributes(events[i].Attributes)
	}
	return events
}

// Links implements sdktrace.ReadOnlySpan.
func (s fitSpan) Links() []sdktrace.Link {
	links := slices.Clone(s.ReadOnlySpan.Links())
	for i := range links {
		links[i].Attributes = fitAttributes(links[i].Attributes)
	}
	return links
}

// fitAttributes copies attributes and makes keys and values fit.
func fitAttributes(attributes []attribute.KeyValue) []attribute.KeyValue {
	fit := slices.Clone(attributes)
	for i := range fit {
		fit[i].Key = attribute.Key(Text(string(fit[i].Key)))
		fit[i].Value = fitValue(fit[i].Value)
	}
	return fit
}

// fitValue makes the texts in a value fit, however deep they are.
func fitValue(value attribute.Value) attribute.Value {
	switch value.Type() {
	case attribute.STRING:
		return attribute.StringValue(Text(value.AsString()))
	case attribute.STRINGSLICE:
		// The SDK returns a copy.
		texts := value.AsStringSlice()
		for i := range texts {
			texts[i] = Text(texts[i])
		}
		return attribute.StringSliceValue(texts)
	case attribute.SLICE:
		values := value.AsSlice()
		for i := range values {
			values[i] = fitValue(values[i])
		}
		return attribute.SliceValue(values...)
	case attribute.MAP:
		return attribute.MapValue(fitAttributes(value.AsMap())...)
	default:
		return value
	}
}
