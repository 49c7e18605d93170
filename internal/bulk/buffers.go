package bulk

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// buffersPerTransfer lets one be filled while the transport writes the other.
const buffersPerTransfer = 2

// minBuffer is more than what grpc-go takes for too small to count references to, and would never
// give back.
const minBuffer = 4 << 10

// Buffers are the buffers of one stream that sends. There are two, so that a transfer takes the
// same memory whatever the peer does: a sender that wants a third waits until the transport has
// written one of them.
type Buffers struct {
	size int
	free chan *[]byte // with nil for one that was not needed yet
	kept *sync.Pool
	// closed has buffers that come back serve the next transfer.
	closed atomic.Bool
}

// Pool makes Buffers of one size, and keeps the memory for the next transfer. It has to be made by
// NewPool.
type Pool struct {
	size int
	kept sync.Pool
}

// NewPool returns a pool for buffers of size bytes.
func NewPool(size int) *Pool { return &Pool{size: size} }

// Buffers returns what a transfer needs that has so many bytes to send, or an unknown number if
// negative.
func (p *Pool) Buffers(bytes int64) *Buffers {
	b := &Buffers{size: p.size, free: make(chan *[]byte, buffersPerTransfer), kept: &p.kept}
	if 0 <= bytes && bytes < int64(p.size) {
		b.size, b.kept = max(int(bytes), minBuffer), nil
	}
	for range buffersPerTransfer {
		b.free <- nil
	}
	return b
}

// Take returns a buffer of the full size as soon as there is one. It has to be given to Message or
// Put back.
func (b *Buffers) Take(ctx context.Context) (*[]byte, error) {
	select {
	case buffer := <-b.free:
		return b.make(buffer), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (b *Buffers) make(buffer *[]byte) *[]byte {
	if buffer == nil && b.kept != nil {
		buffer, _ = b.kept.Get().(*[]byte)
	}
	if buffer == nil {
		buffer = new(make([]byte, b.size, max(b.size, minBuffer)))
	}
	*buffer = (*buffer)[:b.size]
	return buffer
}

// Bulk hands a buffer to the transport, which puts it back.
func (b *Buffers) Bulk(buffer *[]byte) mem.BufferSlice {
	return mem.BufferSlice{mem.NewBuffer(buffer, b)}
}

// Get implements mem.BufferPool, and is not used.
func (b *Buffers) Get(size int) *[]byte { return new(make([]byte, size)) }

// Put takes a buffer back that is no longer needed.
func (b *Buffers) Put(buffer *[]byte) {
	b.free <- buffer
	if b.closed.Load() {
		b.keepFree()
	}
}

// Close has the memory of the buffers serve the next transfer, as soon as the transport has written
// them. Take must not be called after it.
func (b *Buffers) Close() {
	b.closed.Store(true)
	b.keepFree()
}

func (b *Buffers) keepFree() {
	for {
		select {
		case buffer := <-b.free:
			b.keep(buffer)
		default:
			return
		}
	}
}

// Drain waits until the transport has written everything, or until ctx says that it never will.
func (b *Buffers) Drain(ctx context.Context) {
	for range buffersPerTransfer {
		select {
		case buffer := <-b.free:
			b.keep(buffer)
			continue
		default:
		}
		select {
		case buffer := <-b.free:
			b.keep(buffer)
		case <-ctx.Done():
			return
		}
	}
}

func (b *Buffers) keep(buffer *[]byte) {
	if buffer != nil && b.kept != nil {
		b.kept.Put(buffer)
	}
}
