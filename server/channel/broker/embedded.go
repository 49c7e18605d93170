package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

const (
	// startTimeout bounds the start of the embedded server if the context does not; it reads what is
	// stored first.
	startTimeout = 2 * time.Minute
	// readyPoll is how long the start waits before it looks whether the server has failed or ctx is
	// done.
	readyPoll = 10 * time.Millisecond
	// syncInterval is how much a crash of the machine may cost, unless Options.SyncAlways is set. NATS
	// defaults to two minutes.
	syncInterval = 10 * time.Second
	// storeLimit is no limit: MaxBytes of the stream is. A limit here would have to be kept larger
	// than the stored stream's at every start, or the server would not load it.
	storeLimit  = 1 << 50
	memoryLimit = 16 << 20 // nothing is kept in memory
)

// embedded is a NATS server inside this process.
//
// After a write that failed the server takes no message more and answers nothing until it is
// started anew. So supervise stops it, waits until the folder can be written to, and starts another
// one in its place. What was acknowledged is in the files, and the new one has it; the connection
// of this process finds it like a server that was restarted.
type embedded struct {
	opts   Options
	stream string // the name of the stream
	lock   *flock.Flock
	// failed has something when a write has failed, for supervise.
	failed chan struct{}
	// full says that a write has failed and there is still no room: messages are then refused at once,
	// and not tried.
	full atomic.Bool
	// stopped tells supervise to stop the server, and done is closed when it has.
	stopped context.CancelFunc
	done    chan struct{} // closed when nothing is left

	// mu guards what is replaced together with the server.
	mu sync.Mutex
	// newest is the sequence of the last message in the stream's blocks before the server has read
	// them.
	newest uint64
	server *server.Server
	// syncer flushes that server's files.
	syncer *syncer
	// writing ends when a write of that server has failed, by calling fail.
	writing context.Context
	fail    context.CancelFunc
}

// startEmbedded locks the folder, starts a server on it, and supervises it until stop.
func startEmbedded(ctx context.Context, opts Options, stream string) (*embedded, error) {
	lock, err := lockFolder(opts.Dir)
	if err != nil {
		return nil, err
	}
	e := &embedded{opts: opts, stream: stream, lock: lock, failed: make(chan struct{}, 1),
		done: make(chan struct{})}
	if err := e.start(ctx); err != nil {
		err = fmt.Errorf("starting the embedded message broker in %s: %w", opts.Dir, err)
		return nil, errors.Join(err, lock.Close())
	}
	ctx, e.stopped = context.WithCancel(context.Background())
	go e.supervise(ctx)
	return e, nil
}

// start starts a server and puts it in place of the one before, if there was one.
func (e *embedded) start(ctx context.Context) error {
	// Before the server: afterwards what it has dropped from the end cannot be seen.
	newest, err := inspectBlocks(e.opts.Dir, e.stream)
	if err != nil {
		return err
	}
	log := &serverLog{log: e.opts.Log, fatal: make(chan string, 1), writeFailed: e.writeFailed}
	srv, err := server.NewServer(&server.Options{
		ServerName: e.opts.Name,
		// Only this process connects, without a port.
		DontListen: true,
		// The process handles its signals itself.
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		JetStream:              true,
		StoreDir:               e.opts.Dir,
		JetStreamMaxStore:      storeLimit,
		JetStreamMaxMemory:     memoryLimit,
		SyncInterval:           syncInterval,
	})
	if err != nil {
		return err
	}
	srv.SetLoggerV2(log, false, false, false)
	go srv.Start()
	if err := ready(ctx, srv, log.fatal); err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.newest, e.server, e.syncer = newest, srv, newSyncer(e.opts.Dir, e.stream)
	e.writing, e.fail = context.WithCancel(context.Background())
	return nil
}

// ready waits until the server takes connections. It fails with what the server has logged as
// fatal, or when ctx is done.
func ready(ctx context.Context, srv *server.Server, fatal <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !srv.ReadyForConnections(readyPoll) {
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

// InProcessConn implements nats.InProcessConnProvider. It is called for each connection, so that
// the one after a replacement leads to the new server.
func (e *embedded) InProcessConn() (net.Conn, error) { return e.current().InProcessConn() }

// current is the server that runs, or the one that is being replaced.
func (e *embedded) current() *server.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server
}

// untilFailure returns a context that also ends when a write has failed: the server acknowledges
// nothing after that, and the publisher need not wait for its timeout.
func (e *embedded) untilFailure(ctx context.Context) (context.Context, context.CancelFunc) {
	e.mu.Lock()
	writing := e.writing
	e.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(writing, cancel)
	return ctx, func() { stop(); cancel() }
}

// commit returns when what was acknowledged is on the disk, or at once without SyncAlways. If
// flushing fails, what the server holds in memory may be ahead of the disk, so it is replaced, and
// the publisher gets no receipt.
func (e *embedded) commit() error {
	if !e.opts.SyncAlways {
		return nil
	}
	e.mu.Lock()
	syncer := e.syncer
	e.mu.Unlock()
	err := syncer.commit()
	if err != nil {
		e.opts.Log.Error("flushing messages to the disk", "error", err)
		e.writeFailed()
	}
	return err
}

// writeFailed has the server replaced. It is called by the server from within the write, where
// waiting for the server would be a deadlock, and by commit.
func (e *embedded) writeFailed() {
	if e.room() != nil {
		e.full.Store(true)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// It is nil while the first server starts.
	if e.fail != nil {
		e.fail()
	}
	select {
	case e.failed <- struct{}{}:
	default:
	}
}

// supervise replaces a server whose writes fail, until ctx is done, and then stops the last one. It
// runs in a goroutine of its own.
func (e *embedded) supervise(ctx context.Context) {
	defer close(e.done)
	for {
		select {
		case <-e.failed:
			e.replace(ctx)
		case <-ctx.Done():
			stopServer(e.current())
			return
		}
	}
}

// replace stops the server and starts another one as soon as the folder can be written to, for
// which it looks every openRetry. While it waits, full has whether the reason is a lack of room.
func (e *embedded) replace(ctx context.Context) {
	e.opts.Log.Error("the embedded message broker cannot write, and is started anew once it can",
		"folder", e.opts.Dir)
	stopServer(e.current())
	for ctx.Err() == nil {
		err := e.tryWrite()
		e.full.Store(errors.Is(err, ErrStoreFull))
		if err == nil {
			if err = e.start(ctx); err == nil {
				e.opts.Log.Info("the embedded message broker writes again", "folder", e.opts.Dir)
				return
			}
		}
		e.opts.Log.Debug("starting the embedded message broker anew", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(openRetry):
		}
	}
}

// room fails with ErrStoreFull if what is left of the disk is for others: the server needs a little
// for its index, and other services that share the disk get what they have reserved.
func (e *embedded) room() error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(e.opts.Dir, &disk); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if free := disk.Bavail * uint64(disk.Bsize); free < uint64(e.opts.Reserve) || disk.Files > 0 &&
		disk.Ffree == 0 {
		return fmt.Errorf("%w: %d bytes are left in %s", ErrStoreFull, free, e.opts.Dir)
	}
	return nil
}

// tryWrite writes a small file. It fails with ErrStoreFull if there is no room, and with
// ErrUnavailable if the folder cannot be written to for another reason.
func (e *embedded) tryWrite() error {
	if err := e.room(); err != nil {
		return err
	}
	err := writeProbe(filepath.Join(e.opts.Dir, ".probe"))
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrStoreFull, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	default:
		return nil
	}
}

// writeProbe writes a file, flushes it and removes it: some file systems report only then that they
// have no room.
func writeProbe(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = file.Write(make([]byte, 4096))
	return errors.Join(err, file.Sync(), file.Close(), os.Remove(name))
}

// stop returns when everything is on the disk and the folder is free for another process.
func (e *embedded) stop() {
	e.stopped()
	<-e.done
	_ = e.lock.Close() // which unlocks it
}

// stopServer returns when the server has closed its files.
func stopServer(srv *server.Server) {
	srv.Shutdown()
	srv.WaitForShutdown()
}

// lockFolder keeps a second process out of the folder. NATS does not: two servers on one folder
// both acknowledge messages under the same sequences. The lock ends with the process, however it
// ends.
func lockFolder(dir string) (*flock.Flock, error) {
	if dir == "" {
		return nil, errors.New("the embedded message broker needs a folder")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("folder %s of the embedded message broker: %w", dir, err)
	}
	lock := flock.New(filepath.Join(dir, ".lock"), flock.SetFlag(os.O_CREATE|os.O_RDWR),
		flock.SetPermissions(0o640))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("lock folder %s of the embedded message broker: %w", dir, err)
	case !locked:
		return nil, fmt.Errorf("folder %s of the embedded message broker is in use by another process",
			dir)
	}
	return lock, nil
}

// newestFile has the creation time of the stream and the sequence of the latest message that was
// stored, so that a start can tell that the end of the stream is gone: the server cuts off what it
// cannot read there, and does not report it.
const newestFile = ".newest"

// remember writes down how far the stream has come. It does not flush the file: after a crash an
// older number is still true, and only shows less.
func (e *embedded) remember(created time.Time, sequence uint64) error {
	name := filepath.Join(e.opts.Dir, newestFile)
	if err := os.WriteFile(name+".tmp", fmt.Appendf(nil, "%d %d\n", created.UnixNano(), sequence),
		0o640); err != nil {
		return err
	}
	// A crash in the middle of writing must not leave half a number.
	return os.Rename(name+".tmp", name)
}

// had is how far the stream that was created at that time had come before the server started: the
// greater of what was noted, which may be some seconds old, and what stood in its blocks, the end
// of which may be damaged.
func (e *embedded) had(created time.Time) (sequence uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return max(e.newest, e.remembered(created))
}

// remembered is how far the stream had come when that was last noted; 0 if it is not known, or was
// another stream.
func (e *embedded) remembered(created time.Time) (sequence uint64) {
	var nanoseconds int64
	text, err := os.ReadFile(filepath.Join(e.opts.Dir, newestFile))
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &nanoseconds, &sequence); err != nil ||
		nanoseconds != created.UnixNano() {
		return 0
	}
	return sequence
}

// serverLog passes on what the server logs. Its notices are details to an operator of this process,
// so they are logged as such.
type serverLog struct {
	log *slog.Logger
	// fatal has the first reason for which the server would have ended its process.
	fatal chan string
	// writeFailed is called when the text says that a write has failed.
	writeFailed func()
}

// failedWrites are parts of the texts by which the server says that it takes nothing more, in lower
// case. It has no callback or state for that.
var failedWrites = []string{"critical write error", "failed to store a msg", "will be disabled",
	"disabling jetstream"}

// write logs one line of the server. The server may call it from any goroutine, with locks held.
func (l *serverLog) write(level slog.Level, format string, args []any) {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	l.log.Log(context.Background(), level, "embedded message broker", "text", text)
	if level >= slog.LevelWarn && slices.ContainsFunc(failedWrites, func(failed string) bool {
		return strings.Contains(strings.ToLower(text), failed)
	}) {
		l.writeFailed()
	}
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
