package call_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"example.com/quartet/client/call"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/transfer"
)

// liar is a server that breaks the contract, each method as its field says.
type liar struct {
	quartetv1.UnimplementedObjectServiceServer
	quartetv1.UnimplementedChannelServiceServer
	download func(grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error
	upload   func(grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error
	exchange func(grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error
}

func (l *liar) DownloadObject(_ *quartetv1.DownloadObjectRequest, s grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
	return l.download(s)
}

func (l *liar) GetUpload(context.Context, *quartetv1.GetUploadRequest) (*quartetv1.GetUploadResponse, error) {
	return nil, status.Error(codes.NotFound, "never heard of it")
}

func (l *liar) UploadObject(s grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
	return l.upload(s)
}

func (l *liar) Exchange(s grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
	return l.exchange(s)
}

func (l *liar) client(t *testing.T) *call.Client {
	t.Helper()
	return l.clientWith(t, call.Options{MaxTries: 3, StallTimeout: 100 * time.Millisecond})
}

func (l *liar) clientWith(t *testing.T, options call.Options) *call.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	quartetv1.RegisterObjectServiceServer(server, l)
	quartetv1.RegisterChannelServiceServer(server, l)
	healthy := health.NewServer()
	for service := range server.GetServiceInfo() {
		healthy.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(server, healthy)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return newClient(t, listener.Addr().String(), options)
}

func object(content []byte) *quartetv1.DownloadObjectResponse {
	return quartetv1.DownloadObjectResponse_builder{Object: quartetv1.Object_builder{
		Generation: 1, SizeBytes: uint64(len(content)), Crc32C: transfer.Checksum(content),
	}.Build()}.Build()
}

func piece(offset int, data []byte, crc uint32) *quartetv1.DownloadObjectResponse {
	return quartetv1.DownloadObjectResponse_builder{Chunk: quartetv1.DownloadChunk_builder{
		Offset: uint64(offset), Data: data, Crc32C: crc,
	}.Build()}.Build()
}

func TestABusyServerIsComeBackToUntilItHasRoom(t *testing.T) {
	busy, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	client := (&liar{upload: func(s grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
		if calls++; calls <= 3*2 { // Twice as many as it tries in vain.
			return busy.Err()
		}
		return s.SendAndClose(quartetv1.UploadObjectResponse_builder{Object: &quartetv1.Object{}}.Build())
	}}).client(t)
	if _, err := client.Upload(deadline(t), "o", bytes.NewReader(nil), call.UploadOptions{}); err != nil {
		t.Errorf("after %d calls: %v", calls, err)
	}
}

func TestADownloadTrustsNothingThatIsNotVerified(t *testing.T) {
	content := []byte("the content")
	good := transfer.Checksum(content)
	other := transfer.Checksum([]byte("THE content"))
	for what, c := range map[string]struct {
		replies []*quartetv1.DownloadObjectResponse
		want    error
		wrote   string
	}{
		"a chunk that does not match its checksum":     {[]*quartetv1.DownloadObjectResponse{object(content), piece(0, content, good+1)}, call.ErrChecksum, ""},
		"chunks that match, and a whole that does not": {[]*quartetv1.DownloadObjectResponse{object(content), piece(0, []byte("THE content"), other)}, call.ErrChecksum, "THE content"},
		"a chunk that leaves a gap":                    {[]*quartetv1.DownloadObjectResponse{object(content), piece(1, content, good)}, call.ErrProtocol, ""},
		"a chunk beyond the end":                       {[]*quartetv1.DownloadObjectResponse{object(content[:3]), piece(0, content, good)}, call.ErrProtocol, ""},
		"a chunk before the object":                    {[]*quartetv1.DownloadObjectResponse{piece(0, content, good)}, call.ErrProtocol, ""},
		"a message without content":                    {[]*quartetv1.DownloadObjectResponse{object(content), {}}, call.ErrProtocol, ""},
		"a second, different generation":               {[]*quartetv1.DownloadObjectResponse{object(content), quartetv1.DownloadObjectResponse_builder{Object: quartetv1.Object_builder{Generation: 2}.Build()}.Build()}, call.ErrChanged, ""},
	} {
		t.Run(what, func(t *testing.T) {
			client := (&liar{download: func(s grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
				for _, reply := range c.replies {
					if err := s.Send(reply); err != nil {
						return err
					}
				}
				return nil
			}}).client(t)
			var wrote bytes.Buffer
			if _, err := client.Download(deadline(t), "o", &wrote, call.DownloadOptions{}); !errors.Is(err, c.want) {
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
	client := (&liar{download: func(s grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
		calls++
		return s.Send(object([]byte("the content")))
	}}).client(t)
	if _, err := client.Download(deadline(t), "o", io.Discard, call.DownloadOptions{}); err == nil || calls != 3 {
		t.Errorf("got %v after %d calls, want an error after 3", err, calls)
	}
}

func TestAServerThatHangsIsCutAndGivenUp(t *testing.T) {
	hang := &liar{
		download: func(s grpc.ServerStreamingServer[quartetv1.DownloadObjectResponse]) error {
			<-s.Context().Done()
			return s.Context().Err()
		},
		upload: func(s grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
			<-s.Context().Done()
			return s.Context().Err()
		},
		exchange: func(s grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
			<-s.Context().Done()
			return s.Context().Err()
		},
	}
	for what, try := range map[string]func(*call.Client) error{
		"download": func(c *call.Client) error {
			_, err := c.Download(deadline(t), "o", io.Discard, call.DownloadOptions{})
			return err
		},
		"upload": func(c *call.Client) error {
			_, err := c.Upload(deadline(t), "o", bytes.NewReader(make([]byte, 1<<20)), call.UploadOptions{})
			return err
		},
		"join": func(c *call.Client) error {
			_, err := c.Join(deadline(t), call.JoinOptions{Channel: "room", Participant: "alice"})
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			begun := time.Now()
			if err := try(hang.client(t)); err == nil || time.Since(begun) > 30*time.Second {
				t.Errorf("got %v after %v", err, time.Since(begun))
			}
		})
	}
}

func TestAnUploadThatIsTakenOverAgainAndAgainIsLeftToTheOther(t *testing.T) {
	calls := 0
	client := (&liar{upload: func(grpc.ClientStreamingServer[quartetv1.UploadObjectRequest, quartetv1.UploadObjectResponse]) error {
		calls++
		return replaced(t)
	}}).client(t)
	_, err := client.Upload(deadline(t), "o", bytes.NewReader(nil), call.UploadOptions{})
	if err == nil || calls != 3 {
		t.Errorf("got %v after %d calls, want an error after 3", err, calls)
	}
}

func replaced(t *testing.T) error {
	t.Helper()
	st, err := status.New(codes.Aborted, "replaced").WithDetails(&errdetails.ErrorInfo{Reason: "WRITER_REPLACED", Domain: "quartet"})
	if err != nil {
		t.Error(err)
	}
	return st.Err()
}

func TestAMissedMessageIsNoticed(t *testing.T) {
	client := (&liar{exchange: func(s grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
		for _, reply := range []*quartetv1.ExchangeResponse{
			quartetv1.ExchangeResponse_builder{Joined: quartetv1.Joined_builder{LastSequence: 5, AfterSequence: 5}.Build()}.Build(),
			quartetv1.ExchangeResponse_builder{Message: quartetv1.ChannelMessage_builder{Sequence: 7, PreviousSequence: 5}.Build()}.Build(),
			quartetv1.ExchangeResponse_builder{Message: quartetv1.ChannelMessage_builder{Sequence: 9, PreviousSequence: 8}.Build()}.Build(),
		} {
			if err := s.Send(reply); err != nil {
				return err
			}
		}
		<-s.Context().Done()
		return nil
	}}).client(t)
	alice, err := client.Join(deadline(t), call.JoinOptions{Channel: "room", Participant: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer alice.Close()
	if m, err := alice.Receive(deadline(t)); err != nil || m.GetSequence() != 7 {
		t.Fatalf("got %v, %v", m, err)
	}
	if _, err := alice.Receive(deadline(t)); !errors.Is(err, call.ErrGap) {
		t.Errorf("got %v", err)
	}
}
