package object_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/quartet/internal/clienttest"
	"example.com/quartet/test/process/processtest"
)

// The tests in this file run both programs as they are shipped.

// run runs a command of the client, wants an exit code, and returns what it wrote.
func run(t *testing.T, code int, address string, arguments ...string) string {
	t.Helper()
	return finish(t, code, command(t, address, arguments...))
}

// finish runs a command that is ready.
func finish(t *testing.T, code int, c *exec.Cmd) string {
	t.Helper()
	output, err := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != code {
		t.Errorf("%s: exit code %d, expected %d: %v\n%s", strings.Join(c.Args[1:], " "), got, code, err,
			output)
	}
	return string(output)
}

func want(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q is not in:\n%s", part, text)
	}
}

// file writes a file into a folder of the test.
func file(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// stored is the content of an object.
func stored(t *testing.T, address, name string) []byte {
	t.Helper()
	content, err := command(t, address, "download", name, "-").Output()
	if err != nil {
		t.Errorf("download %s: %v", name, err)
	}
	return content
}

func random(size int) []byte {
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(content) // It never fails.
	return content
}

func TestAnIDThatIsFinishedIsNotTakenForAnotherUpload(t *testing.T) {
	server := processtest.Start(t)
	monday, longer := file(t, []byte("the backup of monday")),
		file(t, []byte("the backup of monday, and more"))
	other, shorter := file(t, []byte("the backup of sunday")), file(t, []byte("the backup"))
	run(t, 0, server.Address, "upload", monday, "backup", "--upload-id", "a-fixed-id-of-a-cron-job")
	again := func(code int, path, name string) string {
		return run(t, code, server.Address, "upload", path, name, "--upload-id",
			"a-fixed-id-of-a-cron-job")
	}
	for what, output := range map[string]string{
		"name": again(1, monday, "zzz"), "content": again(1, other, "backup"),
		"a longer file": again(1, longer, "backup"), "a shorter file": again(1, shorter, "backup"),
	} {
		if !strings.Contains(output, "UPLOAD_MISMATCH") || strings.Contains(output, "uploaded") {
			t.Errorf("%s: %s", what, output)
		}
	}
	for what, content := range map[string]string{"content": "the backup of sunday",
		"more": "the backup of monday, and more", "less": "the backup"} {
		c := command(t, server.Address, "upload", "-", "backup", "--upload-id",
			"a-fixed-id-of-a-cron-job")
		c.Stdin = strings.NewReader(content)
		if output := finish(t, 1, c); !strings.Contains(output, "UPLOAD_MISMATCH") {
			t.Errorf("%s from a pipe: %s", what, output)
		}
	}
	want(t, again(0, monday, "backup"), "it was complete already, nothing had to be transferred")
	if got := stored(t, server.Address, "backup"); !bytes.Equal(got, []byte("the backup of monday")) {
		t.Errorf("stored %q", got)
	}
	run(t, 0, server.Address, "delete", "backup")
	want(t, again(1, monday, "backup"), "replaced or deleted since")
}

// TestAFileThatChangesWhileItIsUploadedIsNotStored changes the file when half of it has come: it is
// larger than what is buffered on the way.
func TestAFileThatChangesWhileItIsUploadedIsNotStored(t *testing.T) {
	server := processtest.Start(t)
	const size = 64 << 20
	for name, change := range map[string]func(*os.File) error{
		"overwritten": func(f *os.File) error {
			_, err := f.WriteAt([]byte("torn"), size-10)
			return err
		},
		"longer":  func(f *os.File) error { _, err := f.WriteAt([]byte("more"), size); return err },
		"shorter": func(f *os.File) error { return f.Truncate(size - 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, random(size))
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			proxy := clienttest.NewProxy(t, server.Address)
			proxy.HoldAfter(size/2, func() {
				if err := change(f); err != nil {
					t.Error(err)
				}
			})
			output := run(t, 5, proxy.Address, "upload", path, name, "--sha256")
			want(t, output, "changed during the upload")
			run(t, 3, server.Address, "get", name)
		})
	}
}

func TestWhatAFailedCommandWroteIsNotStored(t *testing.T) {
	server := processtest.Start(t)
	run(t, 0, server.Address, "upload", file(t, []byte("good")), "x")
	output := run(t, 1, server.Address, "upload", "--from-command", "x", "--", "sh", "-c",
		"echo half; echo broken >&2; exit 3")
	want(t, output, "sh: exit status 3; nothing is stored")
	want(t, output, "broken\n")
	run(t, 1, server.Address, "upload", "--from-command", "x", "--", "/nonexistent")
	run(t, 2, server.Address, "upload", "--from-command", "x")
	if got := stored(t, server.Address, "x"); string(got) != "good" {
		t.Errorf("stored %q", got)
	}
	run(t, 0, server.Address, "upload", "--from-command", "x", "--", "printf", "%s", "better")
	if got := stored(t, server.Address, "x"); string(got) != "better" {
		t.Errorf("stored %q", got)
	}
}

func TestNamesThatAreNotUTF8AreAMistakeInTheArgument(t *testing.T) {
	const address = "127.0.0.1:1" // They are not sent.
	path := filepath.Join(t.TempDir(), "\xff")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Skipf("the file system has no such names: %v", err)
	}
	for _, arguments := range [][]string{
		{"get", "\xff"}, {"list", "\xff"}, {"delete", "\xff"}, {"download", "\xff"},
		{"upload", path, "\xff"}, {"upload", path},
		{"upload", "--from-command", "\xff", "--", "true"},
		{"upload", path, "x", "--content-type", "\xff"},
	} {
		want(t, run(t, 2, address, arguments...), `"\xff": is not UTF-8`)
	}
	server := processtest.Start(t)
	run(t, 0, server.Address, "upload", path, "x")
	run(t, 0, server.Address, "download", "x", path+"\xff")
	for _, arguments := range [][]string{
		{"get", "a\nb"}, {"get", strings.Repeat("x", 129)}, {"upload", path, "a\nb"}, {"delete", ""},
		{"upload", path, ""}, {"download", "a\nb", "-"},
		{"upload", path, "x", "--upload-id", "short"}, {"upload", path, "x", "--content-type", "a\nb"},
	} {
		run(t, 2, server.Address, arguments...)
	}
}

func TestAnOutageIsReportedInOneLine(t *testing.T) {
	server := processtest.Start(t)
	proxy := clienttest.NewProxy(t, server.Address)
	proxy.CutAfter(8<<20, 8<<20)
	output := run(t, 0, proxy.Address, "upload", file(t, random(32<<20)), "x")
	want(t, output, "connection lost at ")
	if strings.Contains(output, "level=") || strings.Contains(output, "rpc error") {
		t.Errorf("it is a log:\n%s", output)
	}
}
