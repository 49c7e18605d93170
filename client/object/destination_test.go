package object

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// names lists what is in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func wantFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Errorf("%s: %q, %v", path, got, err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != mode {
		t.Errorf("%s: %v, %v", path, info.Mode(), err)
	}
}

func TestLastElement(t *testing.T) {
	for name, want := range map[string]string{"a": "a", "a/b": "b", "a/../b": "b", "a/.b": ".b",
		"a/-": "-", "…/ü x": "ü x"} {
		if got, err := lastElement(name); got != want || err != nil {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "a/", ".", "..", "a/..", "a/."} {
		if got, err := lastElement(name); err == nil {
			t.Errorf("%q: %q", name, got)
		}
	}
}

// begun is the destination of a download of a/x that has begun.
func begun(t *testing.T, file string) *destination {
	t.Helper()
	to, err := openDestination(io.Discard, "a/x", file, t.Logf)
	if err == nil {
		err = to.begin(quartetv1.Object_builder{Generation: 7}.Build())
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestFileAppearsWhenItIsRight(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o027))
	dir := t.TempDir()
	// The directory first, then what is there by now.
	for _, file := range []string{dir, filepath.Join(dir, "x")} {
		to := begun(t, file)
		_, _ = io.WriteString(to, "new")
		if file == dir && len(names(t, dir)) != 1 || to.file.Name() == filepath.Join(dir, "x") {
			t.Errorf("before the end: %v", names(t, dir))
		}
		if err := to.finish(nil, false); err != nil {
			t.Fatal(err)
		}
		wantFile(t, filepath.Join(dir, "x"), "new", 0o640)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestFileThatIsWrongLeavesNoTrace(t *testing.T) {
	f, server := startFake(t)
	f.badSum = true
	f.keep(quartetv1.UploadHeader_builder{Name: "x"}.Build(), []byte("damaged"))
	dir := t.TempDir()
	file := filepath.Join(dir, "x")
	expect(t, 5, server, "download", "x", file)
	if got := names(t, dir); got != nil {
		t.Errorf("left behind: %v", got)
	}
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, 5, server, "download", "x", file)
	wantFile(t, file, "old", 0o600)
}

func TestReplacedFileKeepsItsModeAndItsLinks(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("old"), 0o604), os.Chmod(file, 0o604),
		os.Symlink("file", link)); err != nil {
		t.Fatal(err)
	}
	to := begun(t, link)
	_, _ = io.WriteString(to, "new")
	if err := to.finish(nil, false); err != nil {
		t.Fatal(err)
	}
	wantFile(t, file, "new", 0o604)
	if info, _ := os.Lstat(link); info.Mode().Type() != os.ModeSymlink {
		t.Error("the link is gone")
	}
}

func TestPipeAndDeviceAreWrittenDirectly(t *testing.T) {
	f, server := startFake(t)
	f.keep(quartetv1.UploadHeader_builder{Name: "x"}.Build(), []byte("content"))
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() {
		got, _ := os.ReadFile(pipe)
		read <- string(got)
	}()
	expect(t, 0, server, "download", "x", pipe)
	if got := <-read; got != "content" {
		t.Errorf("through the pipe came %q", got)
	}
	expect(t, 0, server, "download", "x", os.DevNull)
	for _, path := range []string{pipe, os.DevNull} {
		if info, err := os.Lstat(path); err != nil || info.Mode().IsRegular() {
			t.Errorf("%s was replaced", path)
		}
	}
}
