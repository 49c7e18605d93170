package token_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/quartet/internal/token"
)

// TestATokenIsReadAgainWhenItsFileChanges has the former one stay in use while there is none.
func TestATokenIsReadAgainWhenItsFileChanges(t *testing.T) {
	name := filepath.Join(t.TempDir(), "token")
	write := func(content string) {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		file, err := token.OpenFile(name, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ content, want string }{
			{"first\n", "first"}, {"second", "second"}, {"", "second"}, {"secret in two lines\nsecret", "second"}, {"third", "third"},
		} {
			write(c.content)
			time.Sleep(2 * time.Second)
			if got := file.Token(); got != c.want {
				t.Errorf("after %q: got %q, expected %q", c.content, got, c.want)
			}
		}
		if logged := log.String(); strings.Count(logged, "token not read") != 1 ||
			strings.Contains(logged, "secret") {
			t.Errorf("logged: %s", logged)
		}
	})
	if _, err := token.OpenFile(name+"x", slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is not there is opened")
	}
}
