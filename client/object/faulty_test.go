package object_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/quartet/client/object"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/crc32c"
	"example.com/quartet/internal/rpc"
)

type (
	uploadServer = grpc.ClientStreamingServer[
		quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]
	downloadServer = grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]
)

// faulty is a server that breaks the contract, each method as its field says.
type faulty struct {
	quartetv1.UnimplementedObjectServiceServer
	download func(downloadServer) error
	upload   func(uploadServer) error
	// committed is how much there is of any upload; nil if there is none.
	committed func() int
}

func (f *faulty) DownloadObject(_ *quartetv1.DownloadObjectRequest, s downloadServer) error {
	return f.download(s)
}

func (f *faulty) GetUpload(
	context.Context, *quartetv1.GetUploadRequest,
) (*quartetv1.GetUploadResponse, error) {
	if f.committed != nil {
		return quartetv1.GetUploadResponse_builder{
			CommittedSizeBytes: uint64(f.committed()),
		}.Build(), nil
	}
	return nil, status.Error(codes.NotFound, "never heard of it")
}

func (f *faulty) UploadObject(s uploadServer) error {
	return f.upload(s)
}

func (f *faulty) client(t *testing.T) *object.Client {
	t.Helper()
	return f.clientWith(t, object.Options{Resumption: clienttest.FewRetries()})
}

func (f *faulty) clientWith(t *testing.T, options object.Options) *object.Client {
	t.Helper()
	address, _ := clienttest.Serve(t, "",
		func(r grpc.ServiceRegistrar) { quartetv1.RegisterObjectServiceServer(r, f) })
	return newClient(t, address, options)
}

func info(content []byte) *quartetv1.DownloadObjectResponse {
	return quartetv1.DownloadObjectResponse_builder{Object: quartetv1.Object_builder{
		Generation: 1, SizeBytes: uint64(len(content)), Crc32C: crc32c.Checksum(content),
	}.Build()}.Build()
}

func piece(offset int, data []byte, crc uint32) *quartetv1.DownloadObjectResponse {
	return quartetv1.DownloadObjectResponse_builder{Chunk: quartetv1.DownloadChunk_builder{
		Offset: uint64(offset), Data: data, Crc32C: crc,
	}.Build()}.Build()
}

func TestABusyServerIsAskedAgainUntilItHasRoom(t *testing.T) {
	delay := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)}
	busy, err := status.New(codes.ResourceExhausted, "busy").WithDetails(delay)
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	client := (&faulty{upload: func(s uploadServer) error {
		if calls++; calls <= 3*2 { // Twice as many as it tries in vain.
			return busy.Err()
		}
		// To a client that has not sent everything, an answer is of a finish that it did not hear of.
		for {
			if _, err := s.Recv(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
		}
		return s.SendAndClose(quartetv1.UploadObjectResponse_builder{Object: &quartetv1.Object{}}.Build())
	}}).client(t)
	if _, err := client.Upload(clienttest.Deadline(t), "o", bytes.NewReader(nil),
		object.UploadOptions{}); err != nil {
		t.Errorf("after %d calls: %v", calls, err)
	}
}

func TestADownloadWritesNothingThatIsNotVerified(t *testing.T) {
	content := []byte("the content")
	good := crc32c.Checksum(content)
	other := crc32c.Checksum([]byte("THE content"))
	anotherGeneration := quartetv1.DownloadObjectResponse_builder{
		Object: quartetv1.Object_builder{Generation: 2}.Build(),
	}.Build()
	type replies = []*quartetv1.DownloadObjectResponse
	for what, c := range map[string]struct {
		replies replies
		want    error
		wrote   string
	}{
		"a chunk that does not match its checksum":     {replies{info(content), piece(0, content, good+1)}, object.ErrChecksum, ""},
		"chunks that match, and a whole that does not": {replies{info(content), piece(0, []byte("THE content"), other)}, object.ErrChecksum, "THE content"},
		"a chunk that leaves a gap":                    {replies{info(content), piece(1, content, good)}, rpc.ErrProtocol, ""},
		"a chunk beyond the end":                       {replies{info(content[:3]), piece(0, content, good)}, rpc.ErrProtocol, ""},
		"a chunk before the object":                    {replies{piece(0, content, good)}, rpc.ErrProtocol, ""},
		"a message without content":                    {replies{info(content), {}}, rpc.ErrProtocol, ""},
		"a second, different generation":               {replies{info(content), anotherGeneration}, object.ErrChanged, ""},
	} {
		t.Run(what, func(t *testing.T) {
			client := (&faulty{download: func(s downloadServer) error {
				for _, reply := range c.replies {
					if err := s.Send(reply); err != nil {
						return err
					}
				}
				return nil
			}}).client(t)
			var wrote bytes.Buffer
			if _, err := client.Download(clienttest.Deadline(t), "o", &wrote,
				object.DownloadOptions{}); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if wrote.String() != c.wrote {
				t.Errorf("wrote %q, want %q", &wrote, c.wrote)
			}
		})
	}
}

func TestADownloadThatEndsEarlyIsResumedAndThenGivenUp(t *testing.T) {
	calls := 0
	client := (&faulty{download: func(s downloadServer) error {
		calls++
		return s.Send(info([]byte("the content")))
	}}).client(t)
	if _, err := client.Download(clienttest.Deadline(t), "o", io.Discard,
		object.DownloadOptions{}); err == nil || calls != 3 {
		t.Errorf("got %v after %d calls, want an error after 3", err, calls)
	}
}

func TestAServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	hang := &faulty{
		download: func(s downloadServer) error {
			<-s.Context().Done()
			return s.Context().Err()
		},
		upload: func(s uploadServer) error {
			<-s.Context().Done()
			return s.Context().Err()
		},
	}
	for what, try := range map[string]func(*object.Client) error{
		"download": func(c *object.Client) error {
			_, err := c.Download(clienttest.Deadline(t), "o", io.Discard, object.DownloadOptions{})
			return err
		},
		"upload": func(c *object.Client) error {
			_, err := c.Upload(clienttest.Deadline(t), "o", bytes.NewReader(make([]byte, 1<<20)),
				object.UploadOptions{})
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			begun := time.Now()
			if err := try(hang.clientWith(t,
				object.Options{Resumption: clienttest.CutSoon()})); err == nil ||
				time.Since(begun) > 30*time.Second {
				t.Errorf("got %v after %v", err, time.Since(begun))
			}
		})
	}
}

func TestAnUploadThatIsTakenOverRepeatedlyIsLeftToTheOtherWriter(t *testing.T) {
	calls := 0
	client := (&faulty{upload: func(uploadServer) error {
		calls++
		return replaced(t)
	}}).client(t)
	_, err := client.Upload(clienttest.Deadline(t), "o", bytes.NewReader(nil), object.UploadOptions{})
	if err == nil || calls != 3 {
		t.Errorf("got %v after %d calls, want an error after 3", err, calls)
	}
}

// Each stream is replaced, and more is committed after each.
func TestAnUploadThatMakesProgressIsNotLeftToAnotherWriter(t *testing.T) {
	calls, content := 0, []byte("0123456789")
	client := (&faulty{
		committed: func() int { return calls },
		upload: func(s uploadServer) error {
			if calls++; calls < len(content) {
				return replaced(t)
			}
			for err := error(nil); err == nil; {
				_, err = s.Recv()
			}
			return s.SendAndClose(quartetv1.UploadObjectResponse_builder{
				CommittedSizeBytes: uint64(len(content)), Object: info(content).GetObject(),
			}.Build())
		},
	}).client(t)
	if _, err := client.Upload(clienttest.Deadline(t), "o", bytes.NewReader(content),
		object.UploadOptions{}); err != nil {
		t.Errorf("got %v after %d calls", err, calls)
	}
}

func replaced(t *testing.T) error {
	t.Helper()
	reason := &errdetails.ErrorInfo{Reason: "WRITER_REPLACED", Domain: "quartet"}
	st, err := status.New(codes.Aborted, "replaced").WithDetails(reason)
	if err != nil {
		t.Error(err)
	}
	return st.Err()
}

// A store with parts of 2 MiB, of which a window of 1 MiB fills none, commits nothing.
func TestAPipeIsGivenUpWhereThePartsOfTheServerAreLargerThanItsWindow(t *testing.T) {
	calls := 0
	client := (&faulty{upload: func(s uploadServer) error {
		for calls++; ; {
			if _, err := s.Recv(); errors.Is(err, io.EOF) {
				return s.SendAndClose(&quartetv1.UploadObjectResponse{})
			} else if err != nil {
				return err
			}
		}
	}}).clientWith(t, object.Options{WindowBytes: 1 << 20, Resumption: clienttest.FewRetries()})
	pipe := io.MultiReader(bytes.NewReader(make([]byte, 4<<20)))
	_, err := client.Upload(clienttest.Deadline(t), "o", pipe, object.UploadOptions{})
	if !errors.Is(err, object.ErrWindow) || errors.Is(err, rpc.ErrGaveUp) || calls != 1 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}

// pausing is a server that sends an object a byte at a time, from where it is asked to.
type pausing struct {
	quartetv1.UnimplementedObjectServiceServer
	content []byte

	mu      sync.Mutex
	offsets []int           // where the streams began
	ended   []chan struct{} // is closed when a stream has ended
}

func (p *pausing) DownloadObject(r *quartetv1.DownloadObjectRequest, s downloadServer) error {
	ended := make(chan struct{})
	defer close(ended)
	p.mu.Lock()
	p.offsets, p.ended = append(p.offsets, int(r.GetReadOffset())), append(p.ended, ended)
	p.mu.Unlock()
	if err := s.Send(info(p.content)); err != nil {
		return err
	}
	for at := int(r.GetReadOffset()); at < len(p.content); at++ {
		data := p.content[at : at+1]
		if err := s.Send(piece(at, data, crc32c.Checksum(data))); err != nil {
			return err
		}
	}
	// Only its client ends it.
	<-s.Context().Done()
	return s.Context().Err()
}

// streams returns where the streams began, each offset once, and the end of the last one.
func (p *pausing) streams() (offsets []int, ended chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Compact(slices.Clone(p.offsets)), p.ended[len(p.ended)-1]
}

func (p *pausing) client(t *testing.T, options object.Options) *object.Client {
	t.Helper()
	address, _ := clienttest.Serve(t, "",
		func(r grpc.ServiceRegistrar) { quartetv1.RegisterObjectServiceServer(r, p) })
	return newClient(t, address, options)
}

// writerFunc is an io.Writer.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A stream that is not read ends the connection, and with it the calls of others. So it is
// cancelled while the writer blocks, and another one goes on behind what was written: as often as
// it takes, which is more than there are tries.
func TestAWriterThatBlocksHasItsStreamCancelledAndTheDownloadGoesOn(t *testing.T) {
	server := &pausing{content: []byte("content")}
	client := server.client(t, object.Options{
		WriteTimeout: 50 * time.Millisecond, Resumption: clienttest.FewRetries(),
	})
	ctx := clienttest.Deadline(t)
	var wrote bytes.Buffer
	var last object.Progress
	_, err := client.Download(ctx, "o", writerFunc(func(p []byte) (int, error) {
		_, ended := server.streams()
		select {
		case <-ended:
			return wrote.Write(p)
		case <-ctx.Done():
			return 0, errors.New("the stream was not cancelled")
		}
	}), object.DownloadOptions{Progress: func(p object.Progress) { last = p }})
	if err != nil || wrote.String() != "content" {
		t.Errorf("wrote %q, %v", &wrote, err)
	}
	if offsets, _ := server.streams(); !slices.Equal(offsets, []int{0, 1, 2, 3, 4, 5, 6}) {
		t.Errorf("streams began at %v", offsets)
	}
	if want := (object.Progress{Done: 7, Safe: 7, Total: 7}); last != want {
		t.Errorf("progress %+v, want %+v: a slow writer is no break", last, want)
	}
}

// No single write takes long, but together they do, and the server learns of none of them.
func TestAWriterThatIsSlowWithSmallMessagesHasItsStreamCancelled(t *testing.T) {
	server := &pausing{content: []byte(strings.Repeat("content ", 8))}
	client := server.client(t, object.Options{
		WriteTimeout: 100 * time.Millisecond, Resumption: clienttest.FewRetries(),
	})
	var wrote bytes.Buffer
	_, err := client.Download(clienttest.Deadline(t), "o", writerFunc(func(p []byte) (int, error) {
		time.Sleep(5 * time.Millisecond)
		return wrote.Write(p)
	}), object.DownloadOptions{})
	if err != nil || !bytes.Equal(wrote.Bytes(), server.content) {
		t.Errorf("wrote %q, %v", &wrote, err)
	}
	if offsets, _ := server.streams(); len(offsets) < 2 {
		t.Errorf("streams began at %v, and 64 writes took more than 300 ms", offsets)
	}
}
