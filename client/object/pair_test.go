package object_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

// The tests in this file run both programs as they are shipped.

// command is the client's program, told where the server is.
func command(t *testing.T, address string, arguments ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, processtest.Binary(t, "client"), arguments...)
	c.Env = process.Environ(process.Setting("SERVER", address))
	return c
}

func TestCheckLeavesNothingBehind(t *testing.T) {
	server := processtest.Start(t)
	if output, err := command(t, server.Address, "check").CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, output)
	}
	if left, err := command(t, server.Address, "list").Output(); err != nil ||
		strings.Contains(string(left), "check") {
		t.Errorf("it left something behind: %s, %v", left, err)
	}
}

// interrupted passes content on, and has something happen when left bytes of it have been read.
type interrupted struct {
	io.Reader
	left   int
	happen func()
}

func (s *interrupted) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if before := s.left; before > 0 {
		if s.left -= n; s.left <= 0 {
			s.happen()
		}
	}
	return n, err
}

func TestPipesSurviveARestartOfTheServerInTheMiddle(t *testing.T) {
	server := processtest.Start(t, process.Setting("OBJECT_PART_BYTES", "1MiB"))
	content := make([]byte, 24<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(content) // It never fails.
	restart := func() {
		server.Kill()
		server.Restart()
	}
	upload := command(t, server.Address, "upload", "-", "o")
	upload.Stdin = &interrupted{bytes.NewReader(content), len(content) / 2, restart}
	if output, err := upload.CombinedOutput(); err != nil {
		t.Fatalf("upload: %v\n%s", err, output)
	}
	download := command(t, server.Address, "download", "o", "-")
	pipe, err := download.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := download.Start(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(&interrupted{pipe, len(content) / 2, restart})
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if err := download.Wait(); err != nil {
		t.Error(err)
	}
}

func TestAServerThatStartsLateIsWaitedForAndTheWaitIsReportedOnce(t *testing.T) {
	server := processtest.Start(t)
	server.Kill()
	list := command(t, server.Address, "list")
	notes, err := list.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := list.Start(); err != nil {
		t.Fatal(err)
	}
	const waiting = "waiting for server at "
	first := make([]byte, len(waiting))
	if _, err := io.ReadFull(notes, first); err != nil || string(first) != waiting {
		t.Fatalf("said %q, %v", first, err)
	}
	server.Restart()
	rest, err := io.ReadAll(notes)
	if err != nil || strings.Contains(string(rest), "waiting") {
		t.Errorf("said %s%s, %v", first, rest, err)
	}
	if err := list.Wait(); err != nil {
		t.Error(err)
	}
}

// interruptUpload interrupts an upload in the middle of its content, and returns what it wrote.
func interruptUpload(t *testing.T, address string, content []byte) string {
	t.Helper()
	upload := command(t, address, "upload", "-", "o")
	upload.Stdin = &interrupted{bytes.NewReader(content), len(content) / 2,
		func() { _ = upload.Process.Signal(os.Interrupt) }}
	output, err := upload.CombinedOutput()
	if upload.ProcessState.ExitCode() != 130 {
		t.Fatalf("%v\n%s", err, output)
	}
	return string(output)
}

// said returns the rest of the line that follows what a command wrote.
func said(t *testing.T, output, before string) string {
	t.Helper()
	_, rest, found := strings.Cut(output, before)
	if !found {
		t.Fatalf("it does not say %q:\n%s", before, output)
	}
	line, _, _ := strings.Cut(rest, "\n")
	return line
}

func TestAnUploadThatIsInterruptedSaysHowToContinueAndDoes(t *testing.T) {
	server := processtest.Start(t, process.Setting("OBJECT_PART_BYTES", "1MiB"))
	content := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(content) // It never fails.
	flag := said(t, interruptUpload(t, server.Address, content), "to continue, add: ")
	again := command(t, server.Address, append([]string{"upload", "-", "o", "--sha256"},
		strings.Fields(flag)...)...)
	again.Stdin = bytes.NewReader(content)
	if output, err := again.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	got, err := command(t, server.Address, "download", "o", "-").Output()
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	id := strings.TrimPrefix(flag, "--upload-id ")
	want(t, run(t, 1, server.Address, "cancel-upload", id), "UPLOAD_FINISHED")
}

func TestAnUploadThatIsInterruptedSaysHowToCancelItAndThatLeavesNothing(t *testing.T) {
	server := processtest.Start(t, process.Setting("OBJECT_PART_BYTES", "1MiB"))
	line := said(t, interruptUpload(t, server.Address, random(8<<20)), "to cancel it: ")
	_, id, found := strings.Cut(line, " cancel-upload ")
	if !found {
		t.Fatalf("it says %q", line)
	}
	if output := run(t, 0, server.Address, "cancel-upload", id); output != "" {
		t.Errorf("it says %q", output)
	}
	want(t, run(t, 3, server.Address, "cancel-upload", id), "UPLOAD_NOT_FOUND")
	run(t, 0, server.Address, "cancel-upload", id, "--allow-missing")
	run(t, 2, server.Address, "cancel-upload", "short")
	run(t, 2, server.Address, "cancel-upload")
	run(t, 3, server.Address, "get", "o")
}

// TestALoadThatIsEndedTwiceSaysHowToDeleteWhatItLeavesAndThatDoes has servers that are not reached
// from the first signal on: deletions that arrived after the end of the load would leave less.
func TestALoadThatIsEndedTwiceSaysHowToDeleteWhatItLeavesAndThatDoes(t *testing.T) {
	server := processtest.Start(t)
	proxy := clienttest.NewProxy(t, server.Address)
	run(t, 0, server.Address, "upload", file(t, random(1)), "traffic/other")
	load := processtest.StartClient(t, proxy.Address,
		"load", "--mode", "unary", "--concurrency", "3", "--rate", "10", "--duration", "1m")
	const all = 3 + 1
	objects := func() int { return strings.Count(run(t, 0, server.Address, "list"), "traffic/") }
	for objects() < all {
		time.Sleep(100 * time.Millisecond)
	}
	ended := make(chan struct{})
	proxy.LoseAfter(1, func() {
		_ = load.Process.Signal(os.Interrupt) // Ends says how it ended.
		<-ended
	})
	// The report shows that the first signal has come.
	if _, err := io.ReadFull(load.Out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = load.Process.Signal(os.Interrupt)
	const before = "should any be left:\n"
	output := load.Ends(t, 130, before)
	close(ended)
	if got := objects(); got != all {
		t.Fatalf("%d objects are left, expected %d", got, all)
	}
	processtest.Shell(t, 0, server.Address, said(t, output, before))
	if got := objects(); got != 1 {
		t.Errorf("%d objects are there, expected only the one of another:\n%s", got, output)
	}
}
