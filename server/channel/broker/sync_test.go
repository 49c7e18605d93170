package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// spy counts flushes and fails those that it is told to.
type spy struct {
	flushes atomic.Int64
	fail    atomic.Bool
	blocked chan struct{} // until closed, flushes wait
	flushed sync.Map      // path to size
}

func spyOn(b *Broker) *spy {
	s := &spy{blocked: make(chan struct{})}
	b.embedded.syncer.flush = func(path string) error {
		<-s.blocked
		if s.fail.Load() {
			return errors.New("the disk is gone")
		}
		s.flushes.Add(1)
		if info, err := os.Stat(path); err == nil {
			s.flushed.Store(filepath.Base(path), info.Size())
		}
		return flush(path)
	}
	return s
}

func TestAReceiptComesAfterTheDiskAndOneFlushServesMany(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBroker(t, embeddedURL, Options{Dir: dir, SyncAlways: true})
	disk := spyOn(b)
	const publishers = 100
	var tasks sync.WaitGroup
	var receipts atomic.Int64
	for i := range publishers {
		tasks.Go(func() {
			publish(t, b, "room", "ann", fmt.Sprint(i), strings.Repeat("x", 1000))
			receipts.Add(1)
		})
	}
	eventually(t, "all messages are stored", func() bool {
		now, err := b.state(testContext(t))
		return err == nil && now.last == publishers
	})
	if receipts.Load() != 0 {
		t.Error("a receipt came before the flush")
	}
	close(disk.blocked)
	tasks.Wait()
	if n := disk.flushes.Load(); n == 0 || n > publishers/2 {
		t.Errorf("%d flushes for %d messages at once", n, publishers)
	}
	info, err := os.Stat(filepath.Join(b.embedded.syncer.dir, "1.blk"))
	if err != nil {
		t.Fatal(err)
	}
	if size, _ := disk.flushed.Load("1.blk"); size != info.Size() {
		t.Errorf("%v bytes were flushed of %d", size, info.Size())
	}
}

func TestEveryBlockIsFlushed(t *testing.T) {
	t.Parallel()
	b := openBroker(t, embeddedURL, Options{Dir: t.TempDir(), SyncAlways: true, MaxBytes: 32 << 20})
	disk := spyOn(b)
	close(disk.blocked)
	publishMany(t, b, "room", 900, 60<<10) // More than are kept, in several blocks.
	blocks, err := filepath.Glob(filepath.Join(b.embedded.syncer.dir, "*.blk"))
	if err != nil || len(blocks) < 2 {
		t.Fatal(blocks, err)
	}
	for _, block := range blocks {
		info, err := os.Stat(block)
		if err != nil {
			t.Fatal(err)
		}
		// A block from which messages were discarded is written anew, by the server and with a flush.
		if size, ok := disk.flushed.Load(filepath.Base(block)); !ok || size.(int64) < info.Size() {
			t.Errorf("%v bytes were flushed of %s with %d", size, filepath.Base(block), info.Size())
		}
	}
}

func TestAFailedFlushGivesNoReceiptAndTheServerIsReplaced(t *testing.T) {
	t.Parallel()
	b := openBroker(t, embeddedURL, Options{Dir: t.TempDir(), SyncAlways: true})
	publish(t, b, "room", "ann", "1", "")
	disk, before := spyOn(b), b.embedded.current()
	disk.fail.Store(true)
	close(disk.blocked)
	receipt := publish(t, b, "room", "ann", "2", "") // Again, by the new server.
	if b.embedded.current() == before || disk.flushes.Load() != 0 {
		t.Errorf("receipt %v of the server whose flush failed", receipt)
	}
}

func TestReceiptsComeAfterTheDiskAlsoWhenSeveralBlocksWereDiscardedSinceTheLast(t *testing.T) {
	t.Parallel()
	b := openBroker(t, embeddedURL, Options{Dir: t.TempDir(), SyncAlways: true,
		Retention: time.Second, DedupWindow: 500 * time.Millisecond})
	disk := spyOn(b)
	close(disk.blocked)
	expired := func() {
		t.Helper()
		eventually(t, "all messages are discarded", func() bool {
			info, err := b.stream.Info(testContext(t))
			return err == nil && info.State.Msgs == 0
		})
	}
	publish(t, b, "room", "ann", "1", "")
	for i := range 2 {
		expired()
		// A message without a receipt, whose publisher has gone: no round flushes it.
		msg, err := b.names.encode("room", Message{Participant: "bob", ID: strconv.Itoa(i)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.js.PublishMsg(testContext(t), msg); err != nil {
			t.Fatal(err)
		}
	}
	expired()
	cfg := b.stream.CachedInfo().Config
	cfg.MaxAge = time.Hour // What is looked at below has to be kept that long.
	if _, err := b.js.UpdateStream(testContext(t), cfg); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"2", "3"} {
		publish(t, b, "room", "ann", id, "")
		newest, err := newestBlock(b.embedded.syncer.dir)
		if err != nil || newest < 3 {
			t.Fatal(newest, err)
		}
		block := blockPath(b.embedded.syncer.dir, newest)
		info, err := os.Stat(block)
		if err != nil {
			t.Fatal(err)
		}
		if size, _ := disk.flushed.Load(filepath.Base(block)); size != info.Size() {
			t.Errorf("receipt for %s: %v bytes were flushed of %d", id, size, info.Size())
		}
	}
}

func TestTheReleaserGoesOnBehindBlocksThatWereDiscarded(t *testing.T) {
	t.Parallel()
	b := openBroker(t, embeddedURL, Options{Dir: t.TempDir(), MaxBytes: 1 << 20})
	r, err := b.newReleaser()
	if err != nil {
		t.Fatal(err)
	}
	begun := r.next
	publishMany(t, b, "room", 600, 60<<10) // Several blocks, of which the last two at most are kept.
	if err := r.release(testContext(t)); err != nil {
		t.Fatal(err)
	}
	blocks, err := blockNumbers(r.dir)
	if err != nil || len(blocks) == 0 || blocks[0] <= begun+1 {
		t.Fatal("not enough was discarded", blocks, err)
	}
	if r.next < blocks[0] {
		t.Errorf("looks at block %d of %d", r.next, blocks)
	}
}
