package object

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/cli/clitest"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/rpc"
)

// interrupted is the exit code after an interrupt.
const interrupted = 130

// expect runs a command line against a server, wants an exit code, and returns what was written.
func expect(t *testing.T, code int, server string, args ...string) (out, err string) {
	t.Helper()
	return clitest.Expect(t, code, []cli.Service{Service()}, server, args...)
}

func TestObjectsThereAndBack(t *testing.T) {
	_, server := startFake(t)
	dir := t.TempDir()
	t.Chdir(dir)
	file := filepath.Join(dir, "page.html")
	if err := os.WriteFile(file, []byte("<html>some bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := expect(t, 0, server, "upload", file, "a/page")
	clitest.Want(t, out, "content type  text/html")
	clitest.Want(t, err, `uploaded "a/page": 16 B in `)
	expect(t, 0, server, "upload", file, "--json")

	out, _ = expect(t, 0, server, "get", "a/page", "--json")
	clitest.Want(t, out, `{"name":"a/page","generation":"1","content_type":"text/html; charset=utf-8","size_bytes":"16","crc32c":"`+checksum(crc32c.Checksum([]byte("<html>some bytes")))+`",`)
	clitest.Want(t, out, `"create_time":"2027-01-15T08:00:00Z"}`)
	out, _ = expect(t, 0, server, "list")
	local := time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC).Local().Format("2006-01-02 15:04")
	clitest.Want(t, out, "      SIZE  CREATED           NAME\n      16 B  "+local+"  a/page\n")
	out, _ = expect(t, 0, server, "list", "--json")
	if strings.Count(out, "\n") != 2 || !strings.HasPrefix(out, `{"name":"a/page","size_bytes":"16","create_time":"2027-01-15T08:00:00Z"}`+"\n") {
		t.Errorf("not a line for each object, of what a list has:\n%s", out)
	}
	_, err = expect(t, 0, server, "list", "b")
	clitest.Want(t, err, "no objects")

	_, err = expect(t, 0, server, "download", "a/page")
	clitest.Want(t, err, `downloaded "a/page" to page: 16 B in `)
	if got, _ := os.ReadFile("page"); string(got) != "<html>some bytes" {
		t.Errorf("downloaded %q", got)
	}
	out, _ = expect(t, 0, server, "download", "a/page", "-")
	if out != "<html>some bytes" {
		t.Errorf("downloaded %q", out)
	}

	_, err = expect(t, 5, server, "delete", "a/page", "--generation", "7")
	clitest.Want(t, err, `test: delete "a/page": object generation gone (GENERATION_GONE)`+"\n")
	expect(t, 0, server, "delete", "a/page")
	expect(t, 0, server, "delete", "a/page", "--allow-missing")
	_, err = expect(t, 3, server, "get", "a/page")
	if err != "test: get \"a/page\": object not found (OBJECT_NOT_FOUND)\n" {
		t.Errorf("not one clear line: %q", err)
	}
	expect(t, 3, server, "download", "a/page")
}

func TestUploadFromStandardInput(t *testing.T) {
	f, server := startFake(t)
	c := clitest.Terminal{Services: []cli.Service{Service()}, Stdin: "from a pipe"}
	if code := c.Run(t.Context(), server, "upload", "-", "note.txt", "--quiet"); code != 0 {
		t.Fatal(code, &c.Err)
	}
	if string(f.bytes["note.txt"]) != "from a pipe" || c.Err.String() != "" {
		t.Errorf("uploaded %q, said %q", f.bytes["note.txt"], &c.Err)
	}
	clitest.Want(t, f.objects["note.txt"].GetContentType(), "text/plain")
	expect(t, 2, server, "upload", "-")
	expect(t, 2, server, "upload", t.TempDir())
	expect(t, 1, server, "upload", filepath.Join(t.TempDir(), "absent"))
}

func TestInterruptedUploadTellsHowToContinue(t *testing.T) {
	f, server := startFake(t)
	f.hold = make(chan struct{})
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		<-f.hold
		interrupt()
	}()
	c := clitest.Terminal{Services: []cli.Service{Service()}, Stdin: "x"}
	if code := c.Run(ctx, server, "upload", "-", "x"); code != interrupted {
		t.Errorf("exit code %d", code)
	}
	clitest.Want(t, c.Err.String(), "to continue, add: --upload-id ")
	clitest.Want(t, c.Err.String(), "test: interrupted\n")
}

func TestMisuse(t *testing.T) {
	for _, args := range [][]string{
		{"get"}, {"get", "a", "b"}, {"get", "x", "--loud"}, {"download", "a/.."}, {"download", "a/"},
		{"download", "."},
		{"delete"}, {"list", "a", "b"}, {"upload"},
	} {
		if _, err := expect(t, 2, "localhost:1", args...); !strings.HasPrefix(err, "test: ") {
			t.Errorf("%v: %q", args, err)
		}
	}
	out, _ := expect(t, 0, "localhost:1", "help", "environment")
	clitest.Want(t, out, "TEST_OBJECT_TRAFFIC_LOOKUPS")
}

func TestMalformedConfigurationIsReported(t *testing.T) {
	for _, value := range []string{"TEST_OBJECT_TRAFFIC_LOOKUPS=many",
		"TEST_OBJECT_TRAFFIC_LOOKUPS=-1", "TEST_OBJECT_TRAFFIC_BYTES=0B"} {
		c := clitest.Terminal{Services: []cli.Service{Service()}, Environ: []string{value}}
		if code := c.Run(t.Context(), "x", "get", "y"); code != 2 {
			t.Errorf("%s: exit code %d", value, code)
		}
		name, _, _ := strings.Cut(value, "=")
		clitest.Want(t, c.Err.String(), name)
	}
}

func TestDamageHasAnExitCodeOfItsOwn(t *testing.T) {
	for _, err := range []error{
		ErrChecksum, ErrChanged, fmt.Errorf("%w: %w", rpc.ErrGaveUp, ErrChecksum),
		fmt.Errorf("download: %w", ErrChanged),
		reason(codes.Aborted, "x", "GENERATION_GONE"), reason(codes.DataLoss, "x", "CHECKSUM_MISMATCH"),
	} {
		if !isDamage(err) {
			t.Errorf("%v is taken for no damage", err)
		}
	}
	for _, err := range []error{errors.New("disk full"), rpc.ErrProtocol,
		reason(codes.ResourceExhausted, "x", "OBJECT_TOO_LARGE"), nil} {
		if isDamage(err) {
			t.Errorf("%v is taken for damage", err)
		}
	}
}

func TestCheckGoesThroughAllModesAndLeavesNothingBehind(t *testing.T) {
	f, server := startFake(t)
	out, _ := expect(t, 0, server, "check")
	for _, step := range []string{"client streaming  UploadObject", "unary             GetObject",
		"server streaming  DownloadObject", "unary             DeleteObject"} {
		clitest.Want(t, out, "ok  "+step)
	}
	if n := strings.Count(out, "ok "); n != 5 || len(f.objects) > 0 {
		t.Errorf("%d steps, left %v", n, f.objects)
	}
}

func TestDemoSendsAFileThereAndBack(t *testing.T) {
	f, server := startFake(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("some bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := expect(t, 0, server, "demo", file)
	clitest.Want(t, out, "the same, byte for byte")
	if got := f.bytes["demo/file"]; string(got) != "some bytes" {
		t.Errorf("sent %q", got)
	}
}
