package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
)

// flow is one direction of a call. A stream sends and receives on different
// goroutines, but never twice in the same direction at once, so only what is
// also read at the end of the call is atomic.
type flow struct {
	messages, bytes atomic.Int64
	last            time.Duration // when the last message passed, since the begin of the call
}

// direction holds what the flows of a method are counted in.
type direction struct {
	messages, bytes prometheus.Counter
	// first and gap are nil where the direction does not stream, or where the
	// other one says it already.
	first, gap prometheus.Observer
}

// pass counts a message.
func (f *flow) pass(msg any, d *direction, began time.Time) {
	size := sizeOf(msg)
	n := f.messages.Add(1)
	f.bytes.Add(size)
	d.messages.Inc()
	d.bytes.Add(float64(size))
	// Most directions are not timed, and need no clock.
	if d.first == nil && d.gap == nil {
		return
	}
	now := time.Since(began)
	switch {
	case n > 1 && d.gap != nil:
		d.gap.Observe((now - f.last).Seconds())
	case n == 1 && d.first != nil:
		d.first.Observe(now.Seconds())
	}
	// Only the goroutine of this direction reads and writes it.
	f.last = now
}

// sizeOf is the message's encoded size. It does not look at the content of
// bytes fields, so a chunk of 1 MiB costs as little as one of 1 KiB (see
// BenchmarkSizeOf). A message may know its size, because not all of it is in
// fields. What is no protobuf message counts as empty.
func sizeOf(msg any) int64 {
	switch m := msg.(type) {
	case interface{ Size() int }:
		return int64(m.Size())
	case proto.Message:
		return int64(proto.Size(m))
	}
	return 0
}
