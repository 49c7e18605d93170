package object

import "golang.org/x/sys/unix"

// isMount tells whether a file is a mount of its own, as a container's single files are. It can be
// written, and not replaced: rename(2) gives EBUSY.
func isMount(path string) bool {
	var info unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, 0, &info)
	return err == nil && info.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
