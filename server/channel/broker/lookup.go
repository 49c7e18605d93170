package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// requestTimeout bounds each request to the broker, so that a lost reply is noticed.
	requestTimeout = 3 * time.Second
	// stateAge is how old a state may be where an older one is only less useful, not less true.
	stateAge = time.Second

	// leaderGet is JetStream's subject to ask the leader for one message, followed by the stream.
	leaderGet = "$JS.API.STREAM.MSG.GET."
)

// state is where the stream stood at a moment, as its leader says.
type state struct {
	// doubts is what lineage.doubts was before the moment: if it has changed, the state may be that of
	// another history and is of no use.
	doubts int64
	// first and last are sequences. Messages before first have been discarded.
	first, last uint64
	// retention is the MaxAge of the stream; 0 if messages are kept for ever.
	retention time.Duration
	// replicated says that there is more than one replica.
	replicated bool
	// at is a time by our clock that is not after the moment.
	at time.Time
}

// state asks the leader of the stream, which is ahead of all other replicas. It also notes the
// damage that the answer tells of. If the answer does not fit what this process has seen, it fails
// with ErrUnavailable and has the history checked: callers try again.
func (b *Broker) state(ctx context.Context) (state, error) {
	doubts := b.lineage.doubts.Load()
	created, lastSeen := b.lineage.known()
	// Before the request, so that at is not after the moment of the answer.
	at := time.Now()
	info, err := b.streamInfo(ctx)
	if err != nil {
		return state{}, err
	}
	if !info.Created.Equal(created) || info.State.LastSeq < lastSeen.Sequence {
		b.doubt()
		b.checkHistorySoon()
		return state{}, fmt.Errorf("%w: the history of the stream is in doubt", ErrUnavailable)
	}
	if err := b.inspect(ctx, info.State); err != nil {
		return state{}, err
	}
	channels := int64(info.State.NumSubjects)
	b.kept.Add(channels - b.counted.Swap(channels))
	now := state{doubts: doubts, first: info.State.FirstSeq, last: info.State.LastSeq,
		retention: info.Config.MaxAge, replicated: info.Config.Replicas > 1, at: at}
	b.recent.Store(&now)
	return now, nil
}

// stateWith is state for a reader that has seen a message of this history: it asks several times
// while the stream ends before that, as compare does.
func (b *Broker) stateWith(ctx context.Context, seen uint64) (state, error) {
	for tries := 1; ; tries++ {
		now, err := b.state(ctx)
		if err != nil || seen <= now.last || !now.replicated || tries == proofs {
			return now, err
		}
		select {
		case <-time.After(proofPause):
		case <-ctx.Done():
			return state{}, ctx.Err()
		}
	}
}

// recent is the last state that was asked for, for all channels together.
type recent = atomic.Pointer[state]

// recentState returns a state that is at most stateAge old. One request then serves all
// participants that join within that time.
func (b *Broker) recentState(ctx context.Context) (state, error) {
	if last := b.recent.Load(); last != nil && last.doubts == b.lineage.doubts.Load() &&
		time.Since(last.at) < stateAge {
		return *last, nil
	}
	return b.state(ctx)
}

// query is a request for messages, as JetStream defines it for $JS.API.STREAM.MSG.GET and
// $JS.API.DIRECT.GET.
type query struct {
	// Sequence asks for this one, or with NextIn for the first from it on.
	Sequence uint64 `json:"seq,omitempty"`
	// NextIn and LastIn are subjects: of the next message there, or of the last one.
	NextIn string `json:"next_by_subj,omitempty"`
	LastIn string `json:"last_by_subj,omitempty"`
	// LastOf asks for the last messages of several channels, those from Sequence on.
	LastOf []string `json:"multi_last,omitempty"`
	// Messages and Bytes bound a batch, which a replica hands out by DIRECT.GET. The leader answers
	// MSG.GET with one message.
	Messages int `json:"batch,omitempty"`
	Bytes    int `json:"max_bytes,omitempty"`
}

// found is a message in the stream, without its content; the zero value if there is none.
type found struct {
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Time     time.Time `json:"time"`
}

// position is that of a subscriber that has received the message.
func (m found) position() position {
	return position{last: m.Sequence, through: m.Sequence, at: m.Time, stored: m.Time}
}

// find asks the leader for one message, and returns the zero value if there is none. Any replica
// could tell, but might not have the latest message yet, and then a participant that has seen it
// would be told that it does not exist.
func (b *Broker) find(ctx context.Context, q query) (found, error) {
	attempt, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := json.Marshal(q)
	if err != nil {
		return found{}, err
	}
	if b.embedded != nil {
		if m, err := b.findDirect(attempt, request); err == nil {
			return m, nil
		}
	}
	reply, err := b.nc.RequestMsgWithContext(attempt,
		&nats.Msg{Subject: leaderGet + b.names.stream, Data: request})
	if err != nil {
		return found{}, b.explain(ctx, err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message found               `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return found{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if answer.Error != nil && answer.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return found{}, fmt.Errorf("%w: %w", ErrUnavailable, answer.Error)
	}
	return answer.Message, nil
}

// findDirect is find for the embedded server, which is the only replica. It gets the message as it
// is stored and not in JSON, with which a join took most of its time and memory. It fails if the
// server answers with an error or the headers cannot be read; find then asks in the other way.
func (b *Broker) findDirect(ctx context.Context, request []byte) (found, error) {
	reply, err := b.nc.RequestMsgWithContext(ctx,
		&nats.Msg{Subject: directGet + b.names.stream, Data: request})
	if err != nil {
		return found{}, err
	}
	if end, err := endOfBatch(reply); end || err != nil {
		return found{}, err
	}
	sequence, err := strconv.ParseUint(reply.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return found{}, err
	}
	stored, err := time.Parse(time.RFC3339Nano, reply.Header.Get(jetstream.TimeStampHeaer))
	return found{
		Subject:  reply.Header.Get(jetstream.SubjectHeader),
		Sequence: sequence,
		Time:     stored,
	}, err
}

// LastSequence returns the sequence of the last message in a channel, or 0 if none is kept.
func (b *Broker) LastSequence(ctx context.Context, channel string) (uint64, error) {
	if err := CheckName(channel); err != nil {
		return 0, fmt.Errorf("channel: %w", err)
	}
	last, err := b.last(ctx, b.names.subject+escape(channel))
	return last.Sequence, err
}

// last returns the last message of a channel that can be read; the zero value if there is none.
// JetStream says that there is none also if the very last one is damaged. So what it says is
// verified by reading the channel from its beginning, which is only long if it is damaged.
func (b *Broker) last(ctx context.Context, subject string) (found, error) {
	last, err := b.find(ctx, query{LastIn: subject})
	if err != nil || last.Sequence != 0 {
		return last, err
	}
	for next := uint64(1); ; next = last.Sequence + 1 {
		batch, _, err := b.fetch(ctx,
			query{Sequence: next, NextIn: subject, Messages: batchMessages, Bytes: batchBytes})
		if err != nil || len(batch) == 0 {
			return last, err
		}
		newest := batch[len(batch)-1]
		last = found{Subject: subject, Sequence: newest.Sequence, Time: newest.Time}
	}
}
