package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// smallDisk is a file system of its own.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprint("size=", bytes)); err != nil {
		t.Skip("mounting a small file system needs root: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no room on a disk, and returns what gives it back.
func fill(t *testing.T, dir string) func() {
	t.Helper()
	name := filepath.Join(dir, "filler")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err = file.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	if err := file.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// publishOnce tries to publish, and fails the test if a refusal does not come before the end of the
// time for which Publish tries again.
func publishOnce(t *testing.T, b *Broker, id string) error {
	t.Helper()
	begun := time.Now()
	_, err := b.Publish(testContext(t), "room",
		Message{Participant: "ann", ID: id, Body: make([]byte, 60<<10)})
	if took := time.Since(begun); err != nil && took > publishTimeout-2*time.Second {
		t.Errorf("%v came after %v", err, took)
	}
	return err
}

// wantWriting wants the broker to become healthy by itself, and to have kept what it confirmed.
func wantWriting(t *testing.T, b *Broker, s *Subscription, id string, kept int) {
	t.Helper()
	eventually(t, "the broker writes again", func() bool { return b.Check(testContext(t)) == nil })
	if err := publishOnce(t, b, id); err != nil {
		t.Fatal(err)
	}
	receive(t, s, 1)
	receive(t, subscribe(t, b, "room", pointer(0)), kept+1)
}

func TestAFullDiskRefusesMessagesAtOnceUntilThereIsRoom(t *testing.T) {
	for name, reserve := range map[string]int64{"with the reserve": 0, "in the middle of a write": 1} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t, 24<<20)
			b := openBroker(t, embeddedURL, Options{Dir: filepath.Join(dir, "channel"), Reserve: reserve})
			t.Cleanup(func() { closeBroker(t, b) }) // Before the disk goes.
			s := subscribe(t, b, "room", nil)
			if err := publishOnce(t, b, "first"); err != nil {
				t.Fatal(err)
			}
			receive(t, s, 1)
			kept := 1
			for round := range 2 {
				empty := fill(t, dir)
				var err error
				for i := 0; err == nil && i < 100; i++ {
					if err = publishOnce(t, b, fmt.Sprint(round, "-", i)); err == nil {
						kept++
						receive(t, s, 1)
					}
				}
				if !errors.Is(err, ErrStoreFull) {
					t.Fatalf("round %d: %v", round, err)
				}
				if err := b.Check(testContext(t)); !errors.Is(err, ErrStoreFull) {
					t.Errorf("Check: %v", err)
				}
				if err := publishOnce(t, b, "full"); !errors.Is(err, ErrStoreFull) {
					t.Errorf("again: %v", err)
				}
				empty()
				wantWriting(t, b, s, fmt.Sprint("after", round), kept)
				kept++
			}
		})
	}
}

func TestABrokerWhoseWritesFailIsReplaced(t *testing.T) {
	t.Parallel()
	b := openEmbedded(t)
	s := subscribe(t, b, "room", nil)
	if err := publishOnce(t, b, "first"); err != nil {
		t.Fatal(err)
	}
	receive(t, s, 1)
	before := b.embedded.current()
	b.embedded.writeFailed()
	eventually(t, "another server runs", func() bool { return b.embedded.current() != before })
	wantWriting(t, b, s, "after", 1)
}

func TestTheReserveOfTheDiskIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := openBroker(t, embeddedURL, Options{Dir: t.TempDir(), Reserve: 1 << 60})
	if err := publishOnce(t, b, "1"); !errors.Is(err, ErrStoreFull) {
		t.Error(err)
	}
	if err := b.Check(testContext(t)); !errors.Is(err, ErrStoreFull) {
		t.Error(err)
	}
	subscribe(t, b, "room", nil) // Listening needs no room.
}

func TestAClusterWithoutRoomIsAskedAgainWithAMessage(t *testing.T) {
	t.Parallel()
	for _, code := range []jetstream.ErrorCode{10023, 10002, 10047, 10077} {
		if !isFull(fmt.Errorf("publishing: %w", &jetstream.APIError{Code: 503, ErrorCode: code})) {
			t.Errorf("%d is not taken for a full store", code)
		}
	}
	b := openBroker(t, serverURL(startServer(t, t.TempDir(), -1)), Options{})
	before, err := b.state(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, refused := range []bool{false, true} {
		b.refusesMessages.Store(refused)
		if err := b.Check(testContext(t)); err != nil || b.refusesMessages.Load() {
			t.Error("a message can be stored:", err)
		}
	}
	if after, err := b.state(testContext(t)); err != nil || after.last != before.last+1 {
		t.Errorf("from %d to %d messages, %v", before.last, after.last, err)
	}
}

func TestAStartOnAFullDiskWaitsForRoomWhileReadersAreServed(t *testing.T) {
	dir := smallDisk(t, 24<<20)
	opts := Options{Dir: filepath.Join(dir, "channel")}
	before := openBroker(t, embeddedURL, opts)
	publishMany(t, before, "room", 10, 60<<10)
	closeBroker(t, before)
	empty := fill(t, dir)
	b := openBroker(t, embeddedURL, opts)
	t.Cleanup(func() { closeBroker(t, b) })
	s := subscribe(t, b, "room", pointer(0))
	receive(t, s, 10)
	if err := publishOnce(t, b, "full"); !errors.Is(err, ErrStoreFull) {
		t.Errorf("Publish: %v", err)
	}
	empty()
	wantWriting(t, b, s, "after", 10)
}
