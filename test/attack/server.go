package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/quartet/test/process"
)

// server is a process of the server, in a folder of its own.
type server struct {
	*process.Process
	target
	folder  string
	profile string
	log     *log
}

// startServer starts a server as the chart does for a memory limit in MiB, with more environment.
// If disk is not zero, its data is on a file system of its own with so many MiB.
func startServer(
	ctx context.Context,
	program, parent string,
	memory, disk int64,
	env ...string,
) (*server, error) {
	program, err := filepath.Abs(program) // It is started in another folder.
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(parent, "attack-")
	if err != nil {
		return nil, err
	}
	s := &server{folder: folder, log: &log{}}
	var arguments []string
	if disk > 0 {
		program, arguments = onSmallDisk(program, disk)
	}
	const anyPort = "127.0.0.1:0"
	s.Process, err = process.StartIn(folder, program, append([]string{
		process.Setting("MEMORY_LIMIT", strconv.FormatInt(memory, 10)+"MiB"), "GOGC=400",
		process.Setting("GRPC_ADDRESS", anyPort), process.Setting("PROBE_ADDRESS", anyPort),
		process.Setting("HTTP_ADDRESS", anyPort), process.Setting("PROFILE_ADDRESS", anyPort),
		process.Setting("WEB_ADDRESS", anyPort),
		process.Setting("DRAIN_DELAY", "0s"), process.Setting("DRAIN_BUDGET", "5s"),
	}, env...), s.log, arguments...)
	if err != nil {
		_ = os.RemoveAll(folder)
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	addresses, err := s.Addresses(ctx)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("%w\n%s", err, s.log.tail())
	}
	s.target = target{addresses["grpc"], addresses["probe"], addresses["http"], addresses["web"]}
	s.profile = addresses["profile"]
	return s, nil
}

// onSmallDisk is a command that runs a program with a small file system in place of its folder,
// which no other process sees.
func onSmallDisk(program string, mebibytes int64) (command string, arguments []string) {
	const script = `mount -t tmpfs -o size="$1"m attack . && cd "$PWD" && exec "$2"`
	namespace := "-m"
	if os.Geteuid() != 0 {
		namespace = "-Urm"
	}
	return "unshare", []string{
		namespace,
		"sh",
		"-c",
		script,
		"sh",
		strconv.FormatInt(mebibytes, 10),
		program,
	}
}

func (s *server) close() {
	s.Kill()
	_ = os.RemoveAll(s.folder) // It is in a temporary folder; whatever is left goes with that.
}

// ended says whether the process is gone.
func (s *server) ended() bool {
	select {
	case <-s.Exited():
		return true
	default:
		return false
	}
}

// resetPeak makes the peak of the process's memory what it has at the moment.
func (s *server) resetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.PID()), []byte("5"), 0)
}

// peak is the most memory, in bytes, that was resident since then; resident is what is at the
// moment.
func (s *server) peak() (int64, error)     { return s.status("VmHWM:") }
func (s *server) resident() (int64, error) { return s.status("VmRSS:") }

func (s *server) status(field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		return 0, err
	}
	kilobytes, err := number(string(status), field)
	return kilobytes << 10, err
}

// number is what stands behind a name at the beginning of a line.
func number(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(line, name); found {
			return strconv.ParseInt(strings.Fields(rest + " ?")[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("there is no %q", name)
}

// held is what Go holds in use, in bytes, and the number of goroutines.
type held struct{ bytes, goroutines int64 }

// held collects garbage first if it is told to: what lives is asked for, not what has not been
// collected yet.
func (s *server) held(ctx context.Context, collect bool) (h held, err error) {
	query := "debug=1"
	if collect {
		// What pools of memory keep goes with the second collection.
		if _, err := s.get(ctx, "/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return h, err
		}
		query += "&gc=1"
	}
	heap, err := s.get(ctx, "/debug/pprof/heap?"+query)
	if err != nil {
		return h, err
	}
	alloc, err := number(heap, "# HeapAlloc =")
	if err != nil {
		return h, err
	}
	stack, err := number(heap, "# Stack =")
	if err != nil {
		return h, err
	}
	goroutines, err := s.get(ctx, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return h, err
	}
	h.bytes = alloc + stack
	h.goroutines, err = number(goroutines, "goroutine profile: total")
	return h, err
}

func (s *server) get(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(
		ctx,
		http.MethodGet,
		"http://"+s.profile+path,
		http.NoBody,
	)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return string(text), err
}

// usage is how much is stored in a folder.
type usage struct{ files, bytes int64 }

// stored counts files and folders, and the blocks that they take. What goes while it counts is not
// counted.
func (s *server) stored() (u usage) {
	// As the process sees it.
	root := filepath.Join(fmt.Sprintf("/proc/%d/root", s.PID()), s.folder)
	_ = filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // It has gone.
		}
		if info, err := entry.Info(); err == nil {
			u.files++
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				u.bytes += stat.Blocks * 512
			}
		}
		return nil
	})
	return u
}

// log counts what a server logs, and keeps the end of it.
type log struct {
	mu    sync.Mutex
	bytes int64
	end   []byte
}

const tailBytes = 4 << 10

func (l *log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += int64(len(line))
	l.end = append(l.end, line...)
	if len(l.end) > 2*tailBytes {
		l.end = bytes.Clone(l.end[len(l.end)-tailBytes:])
	}
	return len(line), nil
}

func (l *log) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

func (l *log) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.end[max(0, len(l.end)-tailBytes):])
}
