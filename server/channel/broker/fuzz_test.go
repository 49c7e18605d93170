package broker

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// FuzzNames writes names for NATS: each is one token of a subject, and is read back.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"a", "a.b", "*", ">", "a b", "%41", "é", "\xff", "\x7f", strings.Repeat("x", 129)} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		token := escape(name)
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r != '%' && !isPlain(r) }) {
			t.Errorf("%q is the token %q", name, token)
		}
		if back, err := url.PathUnescape(token); err != nil || back != name {
			t.Errorf("%q is the token %q, which is %q, %v", name, token, back, err)
		}
	})
}

// FuzzMessage publishes a message as NATS carries it: what is accepted arrives as it was sent, and
// a trace context that cannot be carried is left out.
func FuzzMessage(f *testing.F) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	f.Add("channel", "ada", "id-1", []byte("hello"), parent, "vendor=1")
	f.Add("a.b *>", "é: x", "id", []byte(nil), "", "")
	f.Add("c", "\r\n", "id", []byte("\r\n\r\n"), parent+"\r\nNats-Rollup: all", "a\nb")
	f.Add("c", "p", "i d", bytes.Repeat([]byte("x"), MaxBody+1), " ", " ")
	f.Add("c", "p", "id", []byte("x"), parent+" ", " a")
	n := namesOf("orders", "")
	f.Fuzz(func(t *testing.T, channel, participant, id string, body []byte, parent, state string) {
		sent := Message{
			Participant: participant, ID: id, Body: body, Traceparent: parent, Tracestate: state,
		}
		msg, err := n.encode(channel, sent)
		if err != nil {
			return
		}
		msg.Header.Set(jetstream.SequenceHeader, "7")
		msg.Header.Set(jetstream.LastSequenceHeader, "5")
		msg.Header.Set(jetstream.TimeStampHeaer, time.Unix(1, 0).UTC().Format(time.RFC3339Nano))
		got, err := n.decode(carried(t, msg))
		if err != nil {
			t.Fatal(err)
		}
		if got.Participant != participant || got.ID != id || !bytes.Equal(got.Body, body) ||
			got.Sequence != 7 || got.Previous != 5 {
			t.Errorf("%+v arrived as %+v", sent, got)
		}
		if got.Traceparent != "" && got.Traceparent != parent || got.Tracestate != "" && got.Tracestate != state {
			t.Errorf("the trace context %q, %q arrived as %q, %q", parent, state, got.Traceparent, got.Tracestate)
		}
	})
}

// carried is a message with the headers that a client of NATS reads of it.
func carried(t *testing.T, msg *nats.Msg) *nats.Msg {
	t.Helper()
	var wire strings.Builder
	wire.WriteString("NATS/1.0\r\n")
	names := 0
	for name, values := range msg.Header {
		for _, value := range values {
			fmt.Fprintf(&wire, "%s: %s\r\n", name, value)
			names++
		}
	}
	wire.WriteString("\r\n")
	header, err := nats.DecodeHeadersMsg([]byte(wire.String()))
	if err != nil || len(header) != names {
		t.Fatalf("%q has the headers %q: %v", wire.String(), header, err)
	}
	return &nats.Msg{Subject: msg.Subject, Header: header, Data: msg.Data}
}
