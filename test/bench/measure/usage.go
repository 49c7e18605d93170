package measure

import (
	"runtime"
	"syscall"
	"time"
)

// Usage is what a process has used since it began.
type Usage struct {
	Mallocs uint64 // objects on the heap, counted exactly
	CPU     time.Duration
}

// Used is what this process has used. Counting the objects stops it for some microseconds.
func Used() (Usage, error) {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return Usage{}, err
	}
	return Usage{memory.Mallocs, time.Duration(usage.Utime.Nano() + usage.Stime.Nano())}, nil
}

// Since is what was used after earlier.
func (u Usage) Since(earlier Usage) Usage {
	return Usage{u.Mallocs - earlier.Mallocs, u.CPU - earlier.CPU}
}
