package token

import (
	"log/slog"
	"sync"
	"time"
)

// lookInterval is how old what was read of a file may be. Kubernetes renews a token when a fifth of
// its time is left.
const lookInterval = time.Second

// File is a token of one's own in a file that is replaced before the token expires, as Kubernetes
// does. It is safe for concurrent use.
type File struct {
	name string
	log  *slog.Logger

	mu    sync.Mutex
	token string
	read  time.Time
	// why the file could not be read the last time, which is logged when it is another one
	problem string
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
	problem := ""
	if err != nil {
		problem = err.Error()
	} else {
		f.token = token
	}
	if problem != "" && problem != f.problem {
		f.log.Error("token not read, the former one stays in use", "error", problem)
	}
	f.problem = problem
	return f.token
}
