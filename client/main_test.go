package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"example.com/quartet/test/process/processtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		processtest.Clean()
		os.Exit(status)
	}))
}

// console is an app that runs in a test, with what it wrote.
type console struct {
	stdin    string
	environ  []string
	out, err output
}

// output is a writer that can be read, and waited on, while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	// want is what is waited for, and found is closed when it is there.
	want  string
	found chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	o.look()
	return len(p), nil
}

func (o *output) look() {
	if o.found != nil && strings.Contains(o.text.String(), o.want) {
		close(o.found)
		o.found = nil
	}
}

// await is closed once text has been written.
func (o *output) await(text string) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := make(chan struct{})
	o.want, o.found = text, found
	o.look()
	return found
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// run runs a command line against a server and returns the exit code.
func (c *console) run(ctx context.Context, server string, args ...string) int {
	a := &app{
		environ: append([]string{"QUARTET_SERVER=" + server}, c.environ...),
		stdin:   strings.NewReader(c.stdin),
		stdout:  &c.out,
		stderr:  &screen{to: &c.err},
	}
	return a.run(ctx, args)
}

// expect runs a command line, wants an exit code, and returns what was written.
func expect(t *testing.T, code int, server string, args ...string) (out, err string) {
	t.Helper()
	var c console
	if got := c.run(t.Context(), server, args...); got != code {
		t.Errorf("quartet %s: exit code %d, expected %d\n%s%s", strings.Join(args, " "), got, code, &c.out, &c.err)
	}
	return c.out.String(), c.err.String()
}

func want(t *testing.T, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%q is not in:\n%s", part, text)
	}
}

func TestObjectsThereAndBack(t *testing.T) {
	_, server := startFake(t, "127.0.0.1:0")
	dir := t.TempDir()
	t.Chdir(dir)
	file := filepath.Join(dir, "page.html")
	if err := os.WriteFile(file, []byte("<html>some bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := expect(t, 0, server, "upload", file, "a/page")
	want(t, out, "content type  text/html")
	want(t, err, `uploaded "a/page": 16 B in `)
	expect(t, 0, server, "upload", file, "--json")

	out, _ = expect(t, 0, server, "get", "a/page", "--json")
	want(t, out, `{"name":"a/page","generation":"1","content_type":"text/html; charset=utf-8","size_bytes":"16",`)
	out, _ = expect(t, 0, server, "list")
	want(t, out, "SIZE  CREATED               GENERATION           NAME\n            16  2027-01-15T08:00:00Z  1                    a/page\n")
	out, _ = expect(t, 0, server, "list", "--json")
	if strings.Count(out, "\n") != 2 {
		t.Errorf("not a line for each object:\n%s", out)
	}
	_, err = expect(t, 0, server, "list", "b")
	want(t, err, "no objects")

	_, err = expect(t, 0, server, "download", "a/page")
	want(t, err, `downloaded "a/page" to page: 16 B in `)
	if got, _ := os.ReadFile("page"); string(got) != "<html>some bytes" {
		t.Errorf("downloaded %q", got)
	}
	out, _ = expect(t, 0, server, "download", "a/page", "-")
	if out != "<html>some bytes" {
		t.Errorf("downloaded %q", out)
	}

	_, err = expect(t, 5, server, "delete", "a/page", "--generation", "7")
	want(t, err, `quartet: delete "a/page": object generation gone (GENERATION_GONE)`+"\n")
	expect(t, 0, server, "delete", "a/page")
	expect(t, 0, server, "delete", "a/page", "--allow-missing")
	_, err = expect(t, 3, server, "get", "a/page")
	if err != "quartet: get \"a/page\": object not found (OBJECT_NOT_FOUND)\n" {
		t.Errorf("not one clear line: %q", err)
	}
	expect(t, 3, server, "download", "a/page")
}

func TestUploadFromStandardInput(t *testing.T) {
	f, server := startFake(t, "127.0.0.1:0")
	c := console{stdin: "from a pipe"}
	if code := c.run(t.Context(), server, "upload", "-", "note.txt", "--quiet"); code != 0 {
		t.Fatal(code, &c.err)
	}
	if string(f.bytes["note.txt"]) != "from a pipe" || c.err.String() != "" {
		t.Errorf("uploaded %q, said %q", f.bytes["note.txt"], &c.err)
	}
	want(t, f.objects["note.txt"].GetContentType(), "text/plain")
	expect(t, 2, server, "upload", "-")
	expect(t, 2, server, "upload", t.TempDir())
	expect(t, 1, server, "upload", filepath.Join(t.TempDir(), "absent"))
}

func TestInterruptedUploadTellsHowToContinue(t *testing.T) {
	f, server := startFake(t, "127.0.0.1:0")
	f.hold = make(chan struct{})
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		<-f.hold
		interrupt()
	}()
	c := console{stdin: "x"}
	if code := c.run(ctx, server, "upload", "-", "x"); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	want(t, c.err.String(), "to continue, add: --upload-id ")
	want(t, c.err.String(), "quartet: interrupted\n")
}

func TestChat(t *testing.T) {
	f, server := startFake(t, "127.0.0.1:0")
	f.say("eve", "old")
	f.say("e\x1b]0;v\ne", "\x1b[2Jgone\nann: me")
	c := console{stdin: "hello\n\nbye"}
	if code := c.run(t.Context(), server, "chat", "lobby", "--as", "ann"); code != 0 {
		t.Fatal(code, &c.err)
	}
	lines := strings.Split(c.out.String(), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], " ann: hello") || !strings.HasSuffix(lines[1], " ann: bye") {
		t.Errorf("shown: %q", lines)
	}
	// The fake never sends what was said before to those who join from now on; after 0 it does.
	out, _ := expect(t, 0, server, "chat", "lobby", "--after", "1")
	want(t, out, ` e\x1b]0;v\ne: \x1b[2Jgone\nann: me`+"\n")
	out, _ = expect(t, 0, server, "chat", "lobby", "--after", "0", "--json")
	want(t, out, `{"sequence":"1","participant":"eve","body":"b2xk","create_time":"2027-01-15T08:00:00Z"}`+"\n")
	if strings.Count(out, "\n") != 4 {
		t.Errorf("not a line for each message:\n%s", out)
	}
}

func TestChatListensUntilInterrupted(t *testing.T) {
	f, server := startFake(t, "127.0.0.1:0")
	f.say("eve", "psst")
	ctx, interrupt := context.WithCancel(t.Context())
	var c console
	heard := c.out.await("psst")
	go func() {
		<-heard
		interrupt()
	}()
	if code := c.run(ctx, server, "chat", "lobby", "--after", "0", "--listen"); code != exitInterrupted {
		t.Error(code, &c.err)
	}
}

func TestChatRefusesALineThatIsTooLong(t *testing.T) {
	_, server := startFake(t, "127.0.0.1:0")
	for length, code := range map[int]int{maxBody: 0, maxBody + 10: 1} {
		c := console{stdin: strings.Repeat("x", length) + "\n"}
		if got := c.run(t.Context(), server, "chat", "lobby"); got != code {
			t.Errorf("%d bytes: exit code %d, %s", length, got, &c.err)
		}
	}
}

func TestAbsentServerIsWaitedFor(t *testing.T) {
	_, address := startFake(t, "127.0.0.1:0")
	lis := reserve(t)
	var c console
	waiting := c.err.await("waiting for server at " + lis)
	go func() {
		<-waiting
		f, _ := startFake(t, lis)
		f.say("eve", "here")
	}()
	if code := c.run(t.Context(), lis, "list"); code != 0 {
		t.Error(code, &c.err)
	}
	if n := strings.Count(c.err.String(), "\n"); n != 2 { // That, and that there are no objects.
		t.Errorf("%d lines: %s", n, &c.err)
	}
	_, err := expect(t, 4, reserve(t), "get", "x", "--timeout", "100ms")
	want(t, err, "quartet: not done within 100ms\n")
	expect(t, 3, reserve(t), "get", "x", "--server", address)
}

func TestMisuse(t *testing.T) {
	for _, args := range [][]string{
		{"get"}, {"get", "a", "b"}, {"sing"}, {"get", "x", "--loud"}, {"chat", "c", "--after", "now"}, {"list", "--timeout", "x"},
		{"download", "a/.."}, {"download", "a/"}, {"download", "."}, {"serve", "x"}, {"get", "x", "--server", "http://localhost:50051"},
	} {
		if _, err := expect(t, 2, "localhost:1", args...); !strings.HasPrefix(err, "quartet: ") {
			t.Errorf("%v: %q", args, err)
		}
	}
	out, _ := expect(t, 0, "localhost:1", "--version")
	want(t, out, version)
	out, _ = expect(t, 0, "localhost:1", "--help")
	for _, part := range []string{"QUARTET_SERVER ", "Exit codes:", "130 ", "QUARTET_WORKLOAD_LOOKUPS"} {
		want(t, out, part)
	}
}

func TestMalformedConfigurationIsToldWhole(t *testing.T) {
	c := console{environ: []string{"QUARTET_DRAIN_DELAY=soon", "QUARTET_WORKLOAD_LOOKUPS=many", "QUARTET_SERVRE=x"}}
	if code := c.run(t.Context(), "x", "get", "y"); code != exitUsage {
		t.Error(code)
	}
	for _, name := range []string{"QUARTET_DRAIN_DELAY", "QUARTET_WORKLOAD_LOOKUPS", "QUARTET_SERVRE"} {
		want(t, c.err.String(), name)
	}
	c = console{environ: []string{"QUARTET_DRAIN_TIMEOUT=0s", "QUARTET_WORKLOAD_LOOKUPS=-1", "QUARTET_INSTANCE=" + strings.Repeat("x", 65)}}
	c.run(t.Context(), "x", "get", "y")
	for _, name := range []string{"QUARTET_DRAIN_TIMEOUT=0s:", "QUARTET_WORKLOAD_LOOKUPS=-1:", "QUARTET_INSTANCE="} {
		want(t, c.err.String(), name)
	}
}
