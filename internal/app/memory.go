package app

import (
	"math"
	"runtime/debug"
)

// programMemory is what Go's memory limit leaves of the process's at least: for what its collector does not count, which is
// the kernel's buffers, files under way, and the program itself, which is read from the disk again and again where there
// is no room for it.
const programMemory = 32 << 20

// LimitMemory sets Go's memory limit by that of the process, unless GOMEMLIMIT has set one already.
func (c Config) LimitMemory() {
	if c.MemoryLimit > 0 && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(goMemory(int64(c.MemoryLimit)))
	}
}

// goMemory is nine tenths, but not the last 32 MiB; of very little memory it is half.
func goMemory(limit int64) int64 {
	return max(min(limit/10*9, limit-programMemory), limit/2)
}
