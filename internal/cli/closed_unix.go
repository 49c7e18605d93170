//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// wasClosed tells whether a standard stream was closed when the program started. Go's runtime opens
// /dev/null for reading and writing in its place (checkfds in runtime/fds_unix.go), where a shell's
// redirection opens it for one of the two.
func wasClosed(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	// The file descriptor is not open at all.
	if err != nil {
		return true
	}
	null, err := os.Stat(os.DevNull)
	if err != nil || !os.SameFile(info, null) {
		return false
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR
}
