//go:build unix

package object

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// errLocked says that another process writes a part.
var errLocked = errors.New("another process is downloading it there")

// openPart opens a part that is there, and takes its lock. In a folder that others can write, its
// predictable name may be a link, or a file with content of theirs.
func openPart(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// createPart makes a new part, in place of one that is there.
func createPart(name string) (*os.File, error) {
	for {
		// Its lock shows that no process writes it any more.
		if f, err := openPart(name); err == nil {
			err = os.Remove(name)
			_ = f.Close()
			if err != nil {
				return nil, err
			}
		} else if errors.Is(err, errLocked) {
			return nil, err
		}
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if err != nil {
			return nil, err
		}
		if err = lock(f); err == nil {
			return f, nil
		}
		_ = f.Close() // Another process has taken it up between the two.
		if !errors.Is(err, errGone) {
			return nil, err
		}
	}
}

// errGone says that a part was opened and is not the file of that name any more.
var errGone = errors.New("removed or renamed meanwhile")

// lock takes the lock of a part, without waiting. It fails if the file is no regular one of this
// user, if another process has the lock, or with errGone if that process has finished with it
// meanwhile. The lock ends with the file, also if the process is killed.
func lock(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.Mode().IsRegular() || !ok ||
		int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a file of ours", f.Name())
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errLocked
	}
	// The process that had the lock may have renamed the file to its place, where it must not be
	// written.
	if now, err := os.Lstat(f.Name()); err != nil || !os.SameFile(now, info) {
		return errGone
	}
	return nil
}

// keepOwner gives a file the owner and the group of the one that it replaces, and tells what cannot
// be kept of it.
func keepOwner(f *os.File, old fs.FileInfo) string {
	was, ok := old.Sys().(*syscall.Stat_t)
	info, err := f.Stat()
	if err != nil || !ok {
		return ""
	}
	if is, ok := info.Sys().(*syscall.Stat_t); ok && (is.Uid != was.Uid || is.Gid != was.Gid) &&
		f.Chown(int(was.Uid), int(was.Gid)) != nil {
		return fmt.Sprintf("it will belong to user %d and group %d, not to %d and %d", is.Uid, is.Gid,
			was.Uid, was.Gid)
	}
	if was.Nlink > 1 {
		return fmt.Sprintf("its %d other hard links keep the old one", was.Nlink-1)
	}
	return ""
}

// isReadOnly tells whether a file system takes no writes.
func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
