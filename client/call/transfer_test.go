package call_test

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
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/client/call"
	"example.com/quartet/test/process/processtest"
)

func TestTheFourModes(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, call.Options{})
	ctx, content := deadline(t), random(1, 1<<20)
	t.Run("client streaming: an upload returns the object that the server keeps", func(t *testing.T) {
		object, err := client.Upload(ctx, "o", bytes.NewReader(content), call.UploadOptions{ContentType: "text/plain", Size: int64(len(content)), SHA256: true})
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(content); !bytes.Equal(object.GetSha256(), sum[:]) || object.GetSizeBytes() != 1<<20 || object.GetContentType() != "text/plain" {
			t.Errorf("got %v", object)
		}
	})
	t.Run("unary: it is found, listed, and deleted when asked to", func(t *testing.T) {
		if _, err := client.Upload(ctx, "other", bytes.NewReader(nil), call.UploadOptions{}); err != nil {
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
		if err := client.Delete(ctx, "other", call.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Get(ctx, "other"); status.Code(err) != codes.NotFound || call.Reason(err) != "OBJECT_NOT_FOUND" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("server streaming: a download writes the same bytes, or the range asked for", func(t *testing.T) {
		var got bytes.Buffer
		if _, err := client.Download(ctx, "o", &got, call.DownloadOptions{}); err != nil || !bytes.Equal(got.Bytes(), content) {
			t.Errorf("got %d bytes, %v", got.Len(), err)
		}
		got.Reset()
		if _, err := client.Download(ctx, "o", &got, call.DownloadOptions{Offset: 1000, Limit: 5000}); err != nil || !bytes.Equal(got.Bytes(), content[1000:6000]) {
			t.Errorf("got %d bytes, %v", got.Len(), err)
		}
	})
	t.Run("bidirectional: a message gets a receipt and comes around", func(t *testing.T) {
		alice, err := client.Join(ctx, call.JoinOptions{Channel: "room", Participant: "alice"})
		if err != nil {
			t.Fatal(err)
		}
		defer alice.Close()
		heard := make(chan string)
		go func() {
			m, _ := alice.Receive(ctx)
			heard <- string(m.GetBody())
		}()
		if receipt, err := alice.Send(ctx, []byte("hello")); err != nil || receipt.GetSequence() == 0 {
			t.Errorf("got %v, %v", receipt, err)
		}
		if got := <-heard; got != "hello" {
			t.Errorf("heard %q", got)
		}
	})
}

// cuts returns byte counts at which to cut a connection that carries about size: the first frames one by one, where
// the handshake and the headers are, and a sample of the rest.
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
	proxy := newProxy(t, server.Address)
	client := newClient(t, proxy.address, call.Options{})
	ctx, content := deadline(t), random(2, 1<<20)
	t.Run("upload of a file", func(t *testing.T) {
		for i, cut := range cuts(t, len(content)) {
			proxy.cutAll()
			proxy.cutAfter(cut, cut/2)
			name := fmt.Sprint("file", i)
			if _, err := client.Upload(ctx, name, bytes.NewReader(content), call.UploadOptions{}); err != nil {
				t.Fatalf("cut after %d bytes: %v", cut, err)
			}
			verify(t, client, name, content)
		}
	})
	t.Run("upload of a pipe", func(t *testing.T) {
		for i, cut := range cuts(t, len(content)) {
			proxy.cutAll()
			proxy.cutAfter(cut, cut/2)
			name := fmt.Sprint("pipe", i)
			if _, err := client.Upload(ctx, name, io.MultiReader(bytes.NewReader(content)), call.UploadOptions{SHA256: true}); err != nil {
				t.Fatalf("cut after %d bytes: %v", cut, err)
			}
			verify(t, client, name, content)
		}
	})
	t.Run("download", func(t *testing.T) {
		for _, cut := range cuts(t, len(content)) {
			proxy.cutAll()
			proxy.cutAfter(cut, cut/2)
			verify(t, client, "file0", content)
		}
	})
}

func verify(t *testing.T, client *call.Client, name string, content []byte) {
	t.Helper()
	var got bytes.Buffer
	if _, err := client.Download(deadline(t), name, &got, call.DownloadOptions{}); err != nil || !bytes.Equal(got.Bytes(), content) {
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
	client := newClient(t, server.Address, call.Options{MaxTries: 100})
	content := random(3, 32<<20)
	file := &countingFile{Reader: bytes.NewReader(content), when: 20 << 20, then: func() {
		server.Kill()
		server.Restart()
	}}
	if _, err := client.Upload(deadline(t), "o", file, call.UploadOptions{SHA256: true}); err != nil {
		t.Fatal(err)
	}
	verify(t, client, "o", content)
	// What was on its way when the server died had left the file as well: what both kernels buffer for a connection, and
	// the window that the server gives a stream. It is less than half of what would be sent again from the beginning.
	const underway = 8 << 20
	if again := file.read.Load() - int64(len(content)); again < 0 || again > part+underway {
		t.Errorf("%d bytes were sent twice", again)
	}
}

func TestADownloadSurvivesACrashOfTheServer(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, call.Options{MaxTries: 100})
	content := random(4, 16<<20)
	if _, err := client.Upload(deadline(t), "o", bytes.NewReader(content), call.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	var once sync.Once
	resumes := 0
	_, err := client.Download(deadline(t), "o", &got, call.DownloadOptions{Progress: func(p call.Progress) {
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
	content, id := random(5, 1<<20), "an-upload-id-of-the-users-choice"
	// The first process dies: its reader breaks in the middle.
	broken := io.MultiReader(bytes.NewReader(content[:700_000]), failingReader{})
	_, err := newClient(t, server.Address, call.Options{}).Upload(deadline(t), "o", broken, call.UploadOptions{ID: id})
	if !errors.Is(err, errBroken) {
		t.Fatalf("got %v", err)
	}
	client := newClient(t, server.Address, call.Options{})
	ctx := deadline(t)
	for committed := uint64(0); committed < 256<<10; {
		state, err := client.GetUpload(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		committed = state.GetCommittedSizeBytes()
	}
	first := int64(-1)
	_, err = client.Upload(ctx, "o", bytes.NewReader(content), call.UploadOptions{ID: id, Continue: true, SHA256: true, Progress: func(p call.Progress) {
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
	object, err := client.Upload(ctx, "o", bytes.NewReader(content), call.UploadOptions{ID: id, Continue: true})
	if err != nil || object.GetSizeBytes() != 1<<20 {
		t.Errorf("got %v, %v", object, err)
	}
}

var errBroken = errors.New("broken")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errBroken }

func TestAPipeLargerThanItsWindowIsUploadedWindowByWindow(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, call.Options{WindowBytes: 1 << 20})
	content := random(6, 10<<20+1) // ten windows and a byte
	object, err := client.Upload(deadline(t), "o", io.MultiReader(bytes.NewReader(content)), call.UploadOptions{})
	if err != nil || object.GetSizeBytes() != uint64(len(content)) {
		t.Fatalf("got %v, %v", object, err)
	}
	verify(t, client, "o", content)
}

func TestAnObjectThatIsReplacedDuringTheDownloadIsReported(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, call.Options{})
	ctx := deadline(t)
	if _, err := client.Upload(ctx, "o", bytes.NewReader(random(7, 24<<20)), call.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	_, err := client.Download(ctx, "o", io.Discard, call.DownloadOptions{Progress: func(call.Progress) {
		once.Do(func() {
			if _, err := client.Upload(ctx, "o", bytes.NewReader(nil), call.UploadOptions{}); err != nil {
				t.Error(err)
			}
		})
	}})
	if !errors.Is(err, call.ErrChanged) {
		t.Errorf("got %v", err)
	}
}

func TestAWriterThatFailsEndsTheDownloadWithItsOwnError(t *testing.T) {
	server := processtest.Start(t, small...)
	client := newClient(t, server.Address, call.Options{})
	if _, err := client.Upload(deadline(t), "o", bytes.NewReader(random(8, 100_000)), call.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	if _, err := client.Download(deadline(t), "o", file, call.DownloadOptions{}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestAServerThatStaysAwayIsGivenUp(t *testing.T) {
	server := processtest.Start(t)
	client := newClient(t, server.Address, call.Options{MaxTries: 3, StallTimeout: 50 * time.Millisecond})
	server.Kill()
	_, err := client.Download(deadline(t), "o", io.Discard, call.DownloadOptions{})
	if err == nil || deadline(t).Err() != nil {
		t.Errorf("got %v", err)
	}
}
