package object

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/shares"
	"example.com/quartet/server/object/engine"
)

const (
	// defaultMemory is for processes without GOMEMLIMIT and without MEMORY_BYTES.
	defaultMemory = 512 << 20
	// smallChunk is what a download is sent in while memory is short. It costs about half of the
	// speed.
	smallChunk = 32 << 10
	// callMemory is what a stream takes besides buffers: goroutines with their stacks, and what
	// grpc-go knows of it.
	callMemory = 32 << 10
)

// memory bounds what all uploads and downloads take together, so that a server with many slow peers
// slows down and is not killed. A transfer reserves all that it can come to hold before it begins:
//
//   - a download two chunks, which are small ones while memory is short, and what its reader takes;
//   - an upload the window that its sender may fill without being read, two messages, and a part if
//     the engine holds it;
//   - both a buffer of their connection. Connections may be shared, but need not be.
//
// A sixteenth is for spare parts, where the engine holds parts, by which some uploads are faster.
//
// What the kernel buffers for connections is not among it, nor are calls that carry no files.
type memory struct {
	// budget has the bytes that all transfers may reserve.
	budget *bulk.Budget
	// chunks are buffers of ChunkBytes for downloads, and small those for when memory is short.
	chunks, small *bulk.Pool
	// download and upload are what one of them takes, without its chunks or parts.
	download, upload int64
	// largeBytes is the size of a buffer of chunks.
	largeBytes int64

	// uploads are the bytes of the budget that uploads have, by caller, of which one may have half.
	uploads *shares.Shares
	// wait is how long an upload waits for its caller's share.
	wait time.Duration
}

// transferMemory is how many bytes all transfers may take together: half of what the process may.
func (c Config) transferMemory() int64 {
	if c.MemoryBytes > 0 {
		return int64(c.MemoryBytes)
	}
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit / 2
	}
	return defaultMemory
}

// fitMemory makes buffers and windows of connections smaller where memory is small, so that 150
// slow readers and an upload fit into half of what a container of 128 MiB gives to Go.
func (c Config) fitMemory(cfg *rpc.ServerConfig) {
	total := c.transferMemory()
	cfg.BufferBytes = int(min(int64(cfg.BufferBytes), max(total/1024, 32<<10)))
	cfg.StreamWindowBytes = int32(min(int64(cfg.StreamWindowBytes), max(total/32, 64<<10)))
}

// spareParts is how many parts may be in memory besides one for each upload.
func (c Config) spareParts() int { return int(c.transferMemory() / 16 / int64(c.PartBytes)) }

// newMemory takes a configuration that fits, and how much the engine holds of an upload. There has
// to be memory for at least one.
func newMemory(
	c Config, server rpc.ServerConfig, engineBytes int64, registry prometheus.Registerer,
) (*memory, error) {
	total, window := c.transferMemory(), int64(server.StreamWindowBytes)
	// An eighth is for the windows of uploads that wait, because their senders fill them meanwhile.
	waiting := max(total/8/window, 1)
	limit := total - waiting*window - int64(c.spareParts())*engineBytes
	// What makes transfers faster is an eighth, or half where that is parts, because a download
	// without one costs twice.
	extra := limit / 8
	if engineBytes > 0 {
		extra = limit / 2
	}
	m := &memory{
		budget:   bulk.NewBudget(limit, extra, c.MemoryWait, int(waiting)),
		chunks:   bulk.NewPool(int(c.ChunkBytes)),
		small:    bulk.NewPool(min(smallChunk, int(c.ChunkBytes))),
		download: callMemory + int64(server.BufferBytes),
		upload: callMemory + int64(server.BufferBytes) + window + 2*int64(server.MaxReceiveBytes) +
			engineBytes,
		largeBytes: int64(c.ChunkBytes),
	}
	m.uploads, m.wait = shares.New(0, max(limit/2, m.upload), int(max(waiting/2, 1))), c.MemoryWait
	// A server on which not even one upload and one slow download fit would refuse all of them for
	// ever: better that it does not start.
	if least := max(m.upload, m.download+2*smallChunk); least > m.budget.Limit() {
		return nil, config.Problem(fmt.Errorf("MEMORY_BYTES: %v are too few for transfers, of which one "+
			"takes up to %v and those that wait %v; if not set, it is half of GOMEMLIMIT",
			config.Bytes(total), config.Bytes(least), config.Bytes(total-limit)))
	}
	m.register(promauto.With(registry))
	return m, nil
}

// register registers the gauges of memory.
func (m *memory) register(register promauto.Factory) {
	for _, gauge := range []struct {
		name, help string
		value      func() int64
	}{
		{"transfer_memory_limit_bytes", "Memory that all uploads and downloads may take together.",
			m.budget.Limit},
		{"transfer_memory_reserved_bytes", "Memory that uploads and downloads have reserved.",
			m.budget.Reserved},
		{"transfers_waiting", "Uploads and downloads that wait for memory.", m.waiting},
	} {
		register.NewGaugeFunc(prometheus.GaugeOpts{Name: gauge.name, Help: gauge.help},
			func() float64 { return float64(gauge.value()) })
	}
}

// forDownload reserves memory for a download. It returns its chunks, whether there is memory for
// the reader to be fast, and the function that gives the memory back. If memory is short the
// download gets small chunks at once, rather than wait for large ones.
func (m *memory) forDownload(
	ctx context.Context, r engine.Reader,
) (buffers *bulk.Buffers, fast bool, release func(), err error) {
	least, most := r.Memory()
	large := m.download + most + 2*min(m.largeBytes, r.Remaining())
	small := min(m.download+least+2*smallChunk, large)
	reserved, release, err := m.budget.Reserve(ctx, small, large)
	if err != nil {
		return nil, false, nil, overloaded(err)
	}
	if reserved == large {
		return m.chunks.Buffers(r.Remaining()), true, release, nil
	}
	return m.small.Buffers(r.Remaining()), false, release, nil
}

// forUpload reserves memory for an upload, and returns the function that gives it back. It takes it
// out of the share of the caller, which is half, and then out of all there is: uploads that send
// little hold much for long. Downloads hold little where there are many.
func (m *memory) forUpload(ctx context.Context) (release func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, m.wait)
	defer cancel()
	giveShare, err := m.uploads.Take(waiting, rpc.CallerOf(ctx), m.upload)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, rpc.Overloaded("too many uploads of one caller at once")
	}
	_, give, err := m.budget.Reserve(ctx, m.upload, m.upload)
	if err != nil {
		giveShare()
		return nil, overloaded(err)
	}
	return func() { give(); giveShare() }, nil
}

// waiting is how many transfers wait, for room in their caller's share or in all there is.
func (m *memory) waiting() int64 { return m.budget.Waiting() + m.uploads.Waiting() }

// overloaded tells a client when to come back if there was no memory for its transfer.
func overloaded(err error) error {
	if errors.Is(err, bulk.ErrBudget) {
		return rpc.Overloaded(err.Error())
	}
	return err
}
