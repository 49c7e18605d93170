package app

import (
	"math"
	"runtime/debug"

	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
)

// programMemory is what Go's memory limit leaves of the process's at least: for what its collector
// does not count, which is the program itself (30 MiB of it are resident, and read from the disk
// again and again where there is no room), the kernel's buffers, and files under way.
const programMemory = 48 << 20

// LimitMemory sets Go's memory limit by that of the process, unless GOMEMLIMIT has set one already.
func (c Config) LimitMemory() {
	// SetMemoryLimit with a negative value only returns the limit; MaxInt64 is Go's default, none.
	if c.MemoryLimit > 0 && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(goMemory(int64(c.MemoryLimit)))
	}
}

// FitBuffers has grpc-go take buffers for messages that are at most twice as large as what is in
// them. By default one of 33 KiB takes one of 1 MiB, so that a client that reads no replies has the
// server hold some MiB for each stream. It is for a main function, before the first server or
// client is made.
func FitBuffers() {
	// The sizes are given as exponents of two: 256 B, then each power of two from 1 KiB to 2 MiB.
	pool, err := mem.NewBinaryTieredBufferPool(8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)
	if err != nil { // It takes any exponents that a buffer can have.
		panic(err)
	}
	experimental.SetDefaultBufferPool(pool)
}

// goMemory is seven eighths, but not the last 48 MiB; of very little memory it is half. Garbage
// fills what it is before the collector works harder, so with more the process would come to 95 %
// of its limit under any load.
func goMemory(limit int64) int64 {
	return max(min(limit/8*7, limit-programMemory), limit/2)
}
