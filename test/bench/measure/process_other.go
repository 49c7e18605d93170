//go:build !linux

package measure

import (
	"errors"
	"time"
)

var errNotLinux = errors.New("what another process uses is known on Linux only")

// CPUOf is the CPU time that another process has used.
func CPUOf(int) (time.Duration, error) { return 0, errNotLinux }

// ResetPeak makes the peak of a process's memory what it has at the moment.
func ResetPeak(int) error { return errNotLinux }

// PeakOf is the most memory that was resident in a process.
func PeakOf(int) (int64, error) { return 0, errNotLinux }

// Room is how many bytes can still be written to a folder.
func Room(string) int64 { return 0 }
