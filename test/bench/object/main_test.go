package object

import (
	"fmt"
	"os"
	"testing"
)

// TestMain makes this test program its own children.
func TestMain(m *testing.M) {
	child, err := Child(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if child {
		return
	}
	os.Exit(m.Run())
}
