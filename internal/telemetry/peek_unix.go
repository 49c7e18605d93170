//go:build unix

package telemetry

import "syscall"

// peek reads what has arrived at a socket, and leaves it there.
func peek(socket uintptr, into []byte) (int, error) {
	size, _, err := syscall.Recvfrom(int(socket), into, syscall.MSG_PEEK)
	return size, err
}
