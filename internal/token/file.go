package token

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"example.com/quartet/internal/reload"
)

// lookInterval is how old what was read of a file may be. Kubernetes renews a token when a fifth of
// its time is left.
const lookInterval = time.Second

// File is a token of one's own in a file that is replaced before the token expires, as Kubernetes
// does. It is safe for concurrent use.
type File struct {
	name string
	log  *slog.Logger

	mu      sync.Mutex
	token   string
	read    time.Time
	problem reload.Problem
}

// OpenFile reads the file once, so that a wrong name ends the start of the process.
func OpenFile(name string, log *slog.Logger) (*File, error) {
	token, err := ReadFile(name)
	if err != nil {
		return nil, err
	}
	return &File{name: name, log: log, token: token, read: time.Now()}, nil
}

// Token is the newest one that could be read, up to a second after the file has changed.
func (f *File) Token() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.read) < lookInterval {
		return f.token
	}
	f.read = time.Now()
	token, err := ReadFile(f.name)
	if err == nil {
		f.token = token
	}
	f.problem.Note(f.log, "token not read, the former one stays in use", err)
	return f.token
}

// ReadFile reads a token from a file, which may end with a newline.
func ReadFile(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(content))
	if text == "" || len(content) > maxToken ||
		strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: %w", name, errNoToken)
	}
	return text, nil
}

var errNoToken = errors.New("holds no token, which is one line of letters, digits and dots")
