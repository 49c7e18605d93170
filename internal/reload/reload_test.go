package reload_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/quartet/internal/reload"
)

func TestAProblemIsLoggedAgainOnlyWhenItIsAnotherOneOrHasBeenGone(t *testing.T) {
	var log bytes.Buffer
	var problem reload.Problem
	for _, text := range []string{"a", "a", "b", "b", "", "b"} {
		var err error
		if text != "" {
			err = errors.New(text)
		}
		problem.Note(slog.New(slog.NewTextHandler(&log, nil)), "not read", err)
	}
	if got := strings.Count(log.String(), "error=a"); got != 1 {
		t.Errorf("a is logged %d times", got)
	}
	if got := strings.Count(log.String(), "error=b"); got != 2 {
		t.Errorf("b is logged %d times", got)
	}
}

func TestAFileWithoutACertificateHoldsNoAuthorities(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ca.crt")
	if _, err := reload.Authorities(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := os.WriteFile(name, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := reload.Authorities(name); err == nil ||
		!strings.Contains(err.Error(), "holds no certificate") ||
		strings.Contains(err.Error(), "secret") {
		t.Errorf("a file of another kind: %v", err)
	}
}
