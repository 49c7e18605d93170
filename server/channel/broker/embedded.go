package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// startTimeout bounds the start of the embedded server if the context does not; it reads what is stored first.
	startTimeout = 2 * time.Minute
	readyPoll    = 10 * time.Millisecond
	// syncInterval is how much a crash of the machine may cost, unless Options.SyncAlways is set. NATS defaults to two
	// minutes.
	syncInterval = 10 * time.Second
	// storeLimit is no limit: MaxBytes of the stream is. A limit here would have to be kept larger than the stored stream's
	// at every start, or the server would not load it.
	storeLimit  = 1 << 50
	memoryLimit = 16 << 20 // nothing is kept in memory
)

// embedded is a NATS server inside this process.
type embedded struct {
	server *server.Server
	dir    string
	lock   *os.File
	once   sync.Once
}

func startEmbedded(ctx context.Context, opts Options) (*embedded, error) {
	lock, err := lockFolder(opts.Dir)
	if err != nil {
		return nil, err
	}
	log := &serverLog{log: opts.Log, fatal: make(chan string, 1)}
	srv, err := server.NewServer(&server.Options{
		ServerName:             opts.Name,
		DontListen:             true,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		JetStream:              true,
		StoreDir:               opts.Dir,
		JetStreamMaxStore:      storeLimit,
		JetStreamMaxMemory:     memoryLimit,
		SyncAlways:             opts.SyncAlways,
		SyncInterval:           syncInterval,
	})
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	srv.SetLoggerV2(log, false, false, false)
	e := &embedded{server: srv, dir: opts.Dir, lock: lock}
	go srv.Start()
	if err := e.ready(ctx, log.fatal); err != nil {
		e.stop()
		return nil, fmt.Errorf("starting the embedded message broker in %s: %w", opts.Dir, err)
	}
	return e, nil
}

func (e *embedded) ready(ctx context.Context, fatal <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !e.server.ReadyForConnections(readyPoll) {
		select {
		case text := <-fatal:
			return errors.New(text)
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
	}
	return nil
}

// stop returns when everything is on the disk and the folder is free for another process.
func (e *embedded) stop() {
	e.once.Do(func() {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		_ = e.lock.Close() // which unlocks it
	})
}

// lockFolder keeps a second process out of the folder. NATS does not: two servers on one folder both acknowledge messages
// under the same sequences. The lock ends with the process, however it ends.
func lockFolder(dir string) (*os.File, error) {
	if dir == "" {
		return nil, errors.New("the embedded message broker needs a folder")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("folder %s of the embedded message broker: %w", dir, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("folder %s of the embedded message broker: %w", dir, err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		err = fmt.Errorf("folder %s of the embedded message broker is in use by another process: %w", dir, err)
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// newestFile has the latest message that was stored, so that a start can tell that the end of the stream is gone: the server
// cuts off what it cannot read there, and says nothing.
const newestFile = ".newest"

// remember writes down how far the stream has come. It need not be on the disk at once: an older one is as true.
func (e *embedded) remember(created time.Time, sequence uint64) error {
	name := filepath.Join(e.dir, newestFile)
	if err := os.WriteFile(name+".tmp", fmt.Appendf(nil, "%d %d\n", created.UnixNano(), sequence), 0o640); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}

// remembered is how far the stream had come; 0 if it is not known, or was another stream.
func (e *embedded) remembered(created time.Time) (sequence uint64) {
	var nanoseconds int64
	text, err := os.ReadFile(filepath.Join(e.dir, newestFile))
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &nanoseconds, &sequence); err != nil || nanoseconds != created.UnixNano() {
		return 0
	}
	return sequence
}

// serverLog passes on what the server logs, at levels that suit a component: its notices are our details.
type serverLog struct {
	log   *slog.Logger
	fatal chan string
}

func (l *serverLog) write(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, "embedded message broker", "text", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (l *serverLog) Noticef(format string, args ...any) { l.write(slog.LevelDebug, format, args) }
func (l *serverLog) Debugf(format string, args ...any)  { l.write(slog.LevelDebug, format, args) }
func (l *serverLog) Tracef(format string, args ...any)  { l.write(slog.LevelDebug, format, args) }
func (l *serverLog) Warnf(format string, args ...any)   { l.write(slog.LevelWarn, format, args) }
func (l *serverLog) Errorf(format string, args ...any)  { l.write(slog.LevelError, format, args) }

// Fatalf is where the server would exit, were it alone in the process.
func (l *serverLog) Fatalf(format string, args ...any) {
	l.write(slog.LevelError, format, args)
	select {
	case l.fatal <- fmt.Sprintf(format, args...):
	default:
	}
}
