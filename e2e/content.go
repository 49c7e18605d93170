package e2e

import (
	"io"
	"math/rand/v2"
	"testing"
)

// newContent makes bytes that no compression makes fewer, the same for the same seed.
func newContent(t *testing.T, seed byte, size int) string {
	t.Helper()
	content := make([]byte, size)
	if _, err := io.ReadFull(rand.NewChaCha8([32]byte{seed}), content); err != nil {
		t.Fatal(err)
	}
	return string(content)
}
