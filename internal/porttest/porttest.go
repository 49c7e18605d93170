// Package porttest finds ports for the servers of tests that start later, more than once, or never.
package porttest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
)

// Address is where no server listens, at 127.0.0.1.
func Address(tb testing.TB) string {
	tb.Helper()
	return address(Port(tb))
}

// Port is one at which no server listens. It is below those that the kernel chooses itself, so that
// no other listener and no connection gets it by chance: Linux takes 32768 to 60999, and others
// 49152 and up.
func Port(tb testing.TB) int {
	tb.Helper()
	const lowest, highest = 10000, 32767
	for {
		port := lowest + rand.IntN(highest-lowest+1)
		listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address(port))
		if err == nil {
			_ = listener.Close() // It was to see that the port is free.
			return port
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			tb.Fatal(err)
		}
	}
}

func address(port int) string { return fmt.Sprint("127.0.0.1:", port) }
