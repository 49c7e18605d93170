package broker

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// The names of W3C Trace Context, in lower case, as tracers of NATS clients look for them.
	headerTraceparent = "traceparent"
	headerTracestate  = "tracestate"

	// Both in bytes. A traceparent of version 00 has 55.
	maxTraceparent = 64
	maxTracestate  = 512
)

// Message is something said in a channel. Several subscribers share one Body: it must not be
// changed.
type Message struct {
	// Sequence increases within a channel, but not by one.
	Sequence uint64
	// Previous is the sequence of the message before this one, as far as the receiver is concerned:
	// the one it received before, or Subscription.After for the first.
	Previous uint64
	// Participant is the name under which the message was published.
	Participant string
	// Owner is the identity of the client that publishes the message, empty if it has none. It is not
	// kept.
	Owner string
	// ID is the sender's, unique among the owner's messages in the channel under this participant's
	// name.
	ID string
	// Body is what was said, at most MaxBody bytes.
	Body []byte
	// Time is when the message was stored, by the clock of the server that did.
	Time time.Time
	// Traceparent and Tracestate are the W3C trace context that all subscribers get; empty if there is
	// none or it was not printable ASCII of at most 64 and 512 bytes.
	Traceparent, Tracestate string
}

// encode checks a message and writes it as it is kept: the body as data, all else in headers, the
// channel as the last token of the subject. What is malformed of a trace context is left out.
func (n names) encode(channel string, m Message) (*nats.Msg, error) {
	if err := CheckName(channel); err != nil {
		return nil, fmt.Errorf("channel: %w", err)
	}
	if err := CheckName(m.Participant); err != nil {
		return nil, fmt.Errorf("participant: %w", err)
	}
	if err := checkMessageID(m.ID); err != nil {
		return nil, err
	}
	if len(m.Body) > MaxBody {
		return nil, ErrBodyTooLarge
	}
	header := nats.Header{
		jetstream.MsgIDHeader: {dedupKey(channel, m.Owner, m.Participant, m.ID)},
		n.participant:         {escape(m.Participant)},
		n.messageID:           {m.ID},
	}
	if isHeader(m.Traceparent, maxTraceparent) {
		header[headerTraceparent] = []string{m.Traceparent}
		if isHeader(m.Tracestate, maxTracestate) {
			header[headerTracestate] = []string{m.Tracestate}
		}
	}
	return &nats.Msg{Subject: n.subject + escape(channel), Header: header, Data: m.Body}, nil
}

// isHeader says whether a value is not empty, not too long, and of printable ASCII alone: a line
// break would begin another header. Blanks around a value do not survive as a header.
func isHeader(value string, longest int) bool {
	return value != "" && len(value) <= longest && strings.TrimSpace(value) == value &&
		!strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
}

// decode reads a message as the stream announces it or hands it out: both ways it has the same
// headers. Previous is what the stream says: the message before it in the channel, or in the batch;
// 0 if there is none.
//
// Only sequence and time must be right. What a foreign publisher left out of the other headers is
// left empty, because a message that is not passed on would be a hole in the channel.
func (n names) decode(msg *nats.Msg) (Message, error) {
	sequence, err := strconv.ParseUint(msg.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return Message{}, fmt.Errorf("message in %s without sequence: %w", msg.Subject, err)
	}
	stored, err := time.Parse(time.RFC3339Nano, msg.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return Message{}, fmt.Errorf("message %d without time: %w", sequence, err)
	}
	previous, err := strconv.ParseUint(msg.Header.Get(jetstream.LastSequenceHeader), 10, 64)
	if err != nil {
		return Message{}, fmt.Errorf("message %d without predecessor: %w", sequence, err)
	}
	m := n.content(msg)
	m.Sequence, m.Previous, m.Time = sequence, previous, stored
	return m, nil
}

// content reads what the sender has set of a message. Sequence, Previous and Time are for the
// caller.
func (n names) content(msg *nats.Msg) Message {
	participant, err := url.PathUnescape(msg.Header.Get(n.participant))
	if err != nil {
		participant = ""
	}
	return Message{
		Participant: participant,
		ID:          msg.Header.Get(n.messageID),
		Body:        msg.Data,
		Traceparent: msg.Header.Get(headerTraceparent),
		Tracestate:  msg.Header.Get(headerTracestate),
	}
}
