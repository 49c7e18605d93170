package object_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/client/object"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/test/process/processtest"
)

func TestTheThreeModes(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, object.Options{})
	ctx, content := clienttest.Deadline(t), clienttest.Random(1, 1<<20)
	t.Run("client streaming: an upload returns the object that the server keeps", func(t *testing.T) {
		uploaded, err := client.Upload(ctx, "o", bytes.NewReader(content),
			object.UploadOptions{ContentType: "text/plain", Size: int64(len(content)), SHA256: true})
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(content); !bytes.Equal(uploaded.GetSha256(), sum[:]) ||
			uploaded.GetSizeBytes() != 1<<20 || uploaded.GetContentType() != "text/plain" {
			t.Errorf("got %v", uploaded)
		}
	})
	t.Run("unary: it is found, listed, and deleted when asked to", func(t *testing.T) {
		if _, err := client.Upload(ctx, "other", bytes.NewReader(nil),
			object.UploadOptions{}); err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for o, err := range client.List(ctx, "o") {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, o.GetName())
		}
		if !slices.Equal(names, []string{"o", "other"}) {
			t.Errorf("listed %q", names)
		}
		if err := client.Delete(ctx, "other", object.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Get(ctx, "other"); status.Code(err) != codes.NotFound ||
			rpc.Reason(err) != "OBJECT_NOT_FOUND" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("server streaming: a download writes the same bytes, or the range asked for", func(t *testing.T) {
		var got bytes.Buffer
		if _, err := client.Download(ctx, "o", &got, object.DownloadOptions{}); err != nil ||
			!bytes.Equal(got.Bytes(), content) {
			t.Errorf("got %d bytes, %v", got.Len(), err)
		}
		got.Reset()
		if _, err := client.Download(ctx, "o", &got,
			object.DownloadOptions{Offset: 1000, Limit: 5000}); err != nil ||
			!bytes.Equal(got.Bytes(), content[1000:6000]) {
			t.Errorf("got %d bytes, %v", got.Len(), err)
		}
	})
}

// cuts returns byte counts at which to cut a connection that carries about size: the first frames
// one by one, where the handshake and the headers are, and a sample of the rest.
func cuts(t *testing.T, size int) []int {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	source := rand.New(rand.NewPCG(seed, 0))
	at := []int{0, 1, 9, 24, 33, 60, 100, 200, 300, 500, 1000}
	for range 20 {
		at = append(at, source.IntN(size))
	}
	return at
}

func TestTransfersSurviveACutAtAnyByte(t *testing.T) {
	server := processtest.Start(t, small...)
	proxy := clienttest.NewProxy(t, server.Address)
	client := newClient(t, proxy.Address, object.Options{})
	content := clienttest.Random(2, 1<<20)
	t.Run("upload of a file", func(t *testing.T) {
		for i, cut := range cuts(t, len(content)) {
			proxy.CutAll()
			proxy.CutAfter(cut, cut/2)
			name := fmt.Sprint("file", i)
			if _, err := client.Upload(clienttest.Deadline(t), name, bytes.NewReader(content),
				object.UploadOptions{}); err != nil {
				t.Fatalf("cut after %d bytes: %v", cut, err)
			}
			verify(t, client, name, content)
		}
	})
	t.Run("upload of a pipe", func(t *testing.T) {
		for i, cut := range cuts(t, len(content)) {
			proxy.CutAll()
			proxy.CutAfter(cut, cut/2)
			name := fmt.Sprint("pipe", i)
			if _, err := client.Upload(clienttest.Deadline(t), name,
				io.MultiReader(bytes.NewReader(content)),
				object.UploadOptions{SHA256: true}); err != nil {
				t.Fatalf("cut after %d bytes: %v", cut, err)
			}
			verify(t, client, name, content)
		}
	})
	t.Run("download", func(t *testing.T) {
		for _, cut := range cuts(t, len(content)) {
			proxy.CutAll()
			proxy.CutAfter(cut, cut/2)
			verify(t, client, "file0", content)
		}
	})
}

func verify(t *testing.T, client *object.Client, name string, content []byte) {
	t.Helper()
	var got bytes.Buffer
	if _, err := client.Download(clienttest.Deadline(t), name, &got,
		object.DownloadOptions{}); err != nil || !bytes.Equal(got.Bytes(), content) {
		t.Fatalf("%s came back with %d bytes, %v", name, got.Len(), err)
	}
}

// countingFile counts what is read of a file, and calls at once when that reaches a number.
type countingFile struct {
	*bytes.Reader
	read  atomic.Int64
	when  int64
	then  func()
	fired sync.Once
}

func (f *countingFile) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if f.read.Add(int64(n)) >= f.when {
		f.fired.Do(f.then)
	}
	return n, err
}

func TestAnUploadSurvivesACrashOfTheServerAndSendsLessThanOnePartTwice(t *testing.T) {
	const part = 256 << 10
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, object.Options{Resumption: rpc.Resumption{MaxTries: 100}})
	content := clienttest.Random(3, 32<<20)
	file := &countingFile{Reader: bytes.NewReader(content), when: 20 << 20, then: func() {
		server.Kill()
		server.Restart()
	}}
	if _, err := client.Upload(clienttest.Deadline(t), "o", file,
		object.UploadOptions{SHA256: true}); err != nil {
		t.Fatal(err)
	}
	verify(t, client, "o", content)
	// What was on its way when the server died had left the file as well: what both kernels buffer
	// for a connection, and the window that the server gives a stream. It is less than half of what
	// would be sent again from the beginning.
	const underway = 8 << 20
	if again := file.read.Load() - int64(len(content)); again < 0 || again > part+underway {
		t.Errorf("%d bytes were sent twice", again)
	}
}

func TestADownloadSurvivesACrashOfTheServer(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, object.Options{Resumption: rpc.Resumption{MaxTries: 100}})
	content := clienttest.Random(4, 16<<20)
	if _, err := client.Upload(clienttest.Deadline(t), "o", bytes.NewReader(content),
		object.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	var once sync.Once
	resumes := 0
	_, err := client.Download(clienttest.Deadline(t), "o", &got, object.DownloadOptions{Progress: func(p object.Progress) {
		resumes = p.Resumes
		once.Do(func() {
			server.Kill()
			server.Restart()
		})
	}})
	if err != nil || !bytes.Equal(got.Bytes(), content) || resumes == 0 {
		t.Errorf("got %d bytes after %d resumes, %v", got.Len(), resumes, err)
	}
}

func TestAnUploadContinuesInAnotherProcess(t *testing.T) {
	server := processtest.Start(t, small...)
	content, id := clienttest.Random(5, 1<<20), "an-upload-id-of-the-users-choice"
	// The first process ends: its reader fails in the middle.
	broken := io.MultiReader(bytes.NewReader(content[:700_000]), failingReader{})
	_, err := newClient(t, server.Address, object.Options{}).Upload(clienttest.Deadline(t), "o",
		broken, object.UploadOptions{ID: id})
	if !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
	client := newClient(t, server.Address, object.Options{})
	ctx := clienttest.Deadline(t)
	for committed := uint64(0); committed < 256<<10; {
		state, err := client.GetUpload(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		committed = state.GetCommittedSizeBytes()
	}
	first := int64(-1)
	_, err = client.Upload(ctx, "o", bytes.NewReader(content), object.UploadOptions{ID: id, Continue: true, SHA256: true, Progress: func(p object.Progress) {
		if first < 0 {
			first = p.Done
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if first <= 256<<10 {
		t.Errorf("it began again: the first chunk ended at %d", first)
	}
	verify(t, client, "o", content)
	// And once more, when all is done: nothing is sent, and the object is the same.
	again, err := client.Upload(ctx, "o", bytes.NewReader(content),
		object.UploadOptions{ID: id, Continue: true})
	if err != nil || again.GetSizeBytes() != 1<<20 {
		t.Errorf("got %v, %v", again, err)
	}
}

var errBroken = errors.New("broken")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errBroken }

func TestAPipeLargerThanItsWindowIsUploadedWindowByWindow(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, object.Options{WindowBytes: 1 << 20})
	content := clienttest.Random(6, 10<<20+1) // ten windows and a byte
	uploaded, err := client.Upload(clienttest.Deadline(t), "o",
		io.MultiReader(bytes.NewReader(content)), object.UploadOptions{})
	if err != nil || uploaded.GetSizeBytes() != uint64(len(content)) {
		t.Fatalf("got %v, %v", uploaded, err)
	}
	verify(t, client, "o", content)
}

func TestAnObjectThatIsReplacedDuringTheDownloadIsReported(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, object.Options{})
	ctx := clienttest.Deadline(t)
	if _, err := client.Upload(ctx, "o", bytes.NewReader(clienttest.Random(7, 24<<20)),
		object.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	_, err := client.Download(ctx, "o", io.Discard, object.DownloadOptions{Progress: func(object.Progress) {
		once.Do(func() {
			if _, err := client.Upload(ctx, "o", bytes.NewReader(nil), object.UploadOptions{}); err != nil {
				t.Error(err)
			}
		})
	}})
	if !errors.Is(err, object.ErrChanged) {
		t.Errorf("got %v", err)
	}
}

func TestAWriterThatFailsEndsTheDownloadWithItsOwnError(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, object.Options{})
	if _, err := client.Upload(clienttest.Deadline(t), "o",
		bytes.NewReader(clienttest.Random(8, 100_000)), object.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	if _, err := client.Download(clienttest.Deadline(t), "o", file,
		object.DownloadOptions{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// errAway is the error of a writer or a reader that calls a server itself.
var errAway = status.Error(codes.Unavailable, "the next server is away")

type awayWriter struct{ calls int }

func (w *awayWriter) Write([]byte) (int, error) {
	w.calls++
	return 0, errAway
}

func TestAnErrorOfTheCallerIsNeverTakenForOneOfTheServer(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, object.Options{})
	for _, want := range []error{errAway, io.ErrUnexpectedEOF, fmt.Errorf("cut: %w", io.EOF)} {
		source := io.MultiReader(bytes.NewReader(clienttest.Random(9, 100_000)), iotest.ErrReader(want))
		if _, err := client.Upload(clienttest.Deadline(t), "o", source,
			object.UploadOptions{}); !errors.Is(err, want) || errors.Is(err, rpc.ErrGaveUp) {
			t.Errorf("upload: %v, want %v", err, want)
		}
	}
	if _, err := client.Upload(clienttest.Deadline(t), "o",
		bytes.NewReader(clienttest.Random(8, 100_000)), object.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	w := &awayWriter{}
	if _, err := client.Download(clienttest.Deadline(t), "o", w,
		object.DownloadOptions{}); !errors.Is(err, errAway) || w.calls != 1 {
		t.Errorf("download: %v after %d writes", err, w.calls)
	}
}

func TestAServerThatStaysAwayIsGivenUp(t *testing.T) {
	server := processtest.Start(t)
	client := newClient(t, server.Address, object.Options{Resumption: rpc.Resumption{MaxTries: 3,
		StallTimeout: 50 * time.Millisecond}})
	server.Kill()
	_, err := client.Download(clienttest.Deadline(t), "o", io.Discard, object.DownloadOptions{})
	if err == nil || clienttest.Deadline(t).Err() != nil {
		t.Errorf("got %v", err)
	}
}
