package rpc

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry/telemetrytest"
)

// answering sends replies of a size in each mode, one or, in a server stream, as many as it can.
type answering struct {
	grpc_testing.UnimplementedTestServiceServer
	size  int
	whole bool                      // whether a server stream goes on
	wait  bool                      // whether a bidirectional stream stays open
	begun func(ctx context.Context) // is called first, if it is not nil
}

func (s *answering) begin(ctx context.Context) {
	if s.begun != nil {
		s.begun(ctx)
	}
}

func (s *answering) UnaryCall(
	ctx context.Context, _ *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	s.begin(ctx)
	return &grpc_testing.SimpleResponse{Payload: payload(s.size)}, nil
}

func (s *answering) StreamingOutputCall(_ *grpc_testing.StreamingOutputCallRequest,
	stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
	s.begin(stream.Context())
	for {
		err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: payload(s.size)})
		if err != nil || !s.whole {
			return err
		}
	}
}

func (s *answering) StreamingInputCall(stream grpc.ClientStreamingServer[
	grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	s.begin(stream.Context())
	if _, err := stream.Recv(); err != nil {
		return err
	}
	return stream.SendAndClose(&grpc_testing.StreamingInputCallResponse{})
}

func (s *answering) FullDuplexCall(stream grpc.BidiStreamingServer[
	grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	s.begin(stream.Context())
	if _, err := stream.Recv(); err != nil {
		return err
	}
	err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: payload(s.size)})
	if s.wait && err == nil {
		<-stream.Context().Done()
	}
	return err
}

func (s setup) startAnswering(t *testing.T, service *answering) *running {
	t.Helper()
	return s.startService(t, func(registrar grpc.ServiceRegistrar) {
		grpc_testing.RegisterTestServiceServer(registrar, service)
	})
}

// dialUnread is a client that takes no byte of any reply.
func dialUnread(t *testing.T, address string) *frames {
	t.Helper()
	return dialUnreadFrom(t, "127.0.0.1", address)
}

func dialUnreadFrom(t *testing.T, from, address string) *frames {
	t.Helper()
	client := dialFramesFrom(t, from, address)
	client.must(client.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	return client
}

// begin sends a whole request, and waits for the headers of its reply.
func (f *frames) begin(path string) (stream uint32) {
	f.t.Helper()
	stream = f.call(path)
	f.must(f.WriteData(stream, true, []byte(message(0, ""))))
	for {
		frame, err := f.read()
		f.must(err)
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok && headers.StreamID == stream {
			return stream
		}
	}
}

// unreadPaths are calls whose handler ends with a reply that was not taken.
func unreadPaths() map[string]string {
	all := map[string]string{"a check of health": healthpb.Health_Check_FullMethodName}
	for _, path := range paths {
		all[path.mode] = path.path
	}
	return all
}

// TestRepliesThatAreNotTakenKeepTheirPlace has a caller take nothing of its replies. It gets no
// more than its share of the places, until its connection is closed.
func TestRepliesThatAreNotTakenKeepTheirPlace(t *testing.T) {
	for mode, path := range unreadPaths() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel() // They wait.
			s := defaults()
			s.server.MaxInFlight, s.server.MaxConnections = 4, 4
			s.server.SendTimeout = 2 * time.Second
			r := s.startAnswering(t, &answering{size: 1000})
			client := dialUnread(t, r.address)
			client.begin(path)
			client.begin(path)
			if st := client.end(client.begin(path)); st.Code() != codes.ResourceExhausted ||
				errorInfo(st).GetReason() != "OVERLOADED" {
				t.Fatalf("beyond its share the caller got %v with %v", st, st.Details())
			}
			other := dialFramesFrom(t, "127.0.0.2", r.address)
			if st := other.end(other.begin(path)); st.Code() != codes.OK {
				t.Errorf("another caller got %v", st)
			}
			client.untilClosed()
			again := dialFrames(t, r.address)
			eventually(t, "the places are free", func() bool {
				return again.end(again.begin(path)).Code() == codes.OK
			})
		})
	}
}

// TestACallThatIsResetGivesItsPlaceBack has a client give up calls whose replies it has not taken,
// which is no reason to close its connection.
func TestACallThatIsResetGivesItsPlaceBack(t *testing.T) {
	for mode, path := range unreadPaths() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := defaults()
			s.server.MaxInFlight, s.server.MaxConnections = 2, 2
			r := s.startAnswering(t, &answering{size: 1000})
			client := dialUnread(t, r.address)
			for range 20 {
				stream := client.begin(path)
				if client.ended[stream] != nil {
					t.Fatalf("the caller got %v", client.ended[stream])
				}
				client.must(client.WriteRSTStream(stream, http2.ErrCodeCancel))
				eventually(t, "the place is free", func() bool { return r.places() == 0 })
			}
		})
	}
}

// places is how many are taken.
func (r *running) places() (taken int64) {
	l := r.server.load
	for _, p := range []*places{l.calls, l.streams, l.watches, l.checks} {
		p.mu.Lock()
		taken += p.taken
		p.mu.Unlock()
	}
	return taken
}

// TestASlowClientIsNotCutOff has one take a large reply in parts, the whole of which takes longer
// than the timeout.
func TestASlowClientIsNotCutOff(t *testing.T) {
	const size, part, pause = 64 << 10, 4 << 10, 150 * time.Millisecond
	s := defaults()
	s.server.SendTimeout = 13 * pause
	r := s.startAnswering(t, &answering{size: size})
	client := dialUnread(t, r.address)
	client.must(client.WriteWindowUpdate(0, size))
	stream := client.begin(paths[0].path)
	began := time.Now()
	for received := 0; client.ended[stream] == nil; {
		time.Sleep(pause) // This is how slow it is.
		client.must(client.WriteWindowUpdate(stream, part))
		for want := min(received+part, size); received < want; {
			frame, err := client.read()
			client.must(err)
			if data, ok := frame.(*http2.DataFrame); ok {
				received += len(data.Data())
			}
		}
		if received == size {
			client.must(client.WriteWindowUpdate(stream, part)) // for what is around the payload
			client.end(stream)
		}
	}
	if st := client.ended[stream]; st.Code() != codes.OK {
		t.Errorf("got %v", st)
	}
	if took := time.Since(began); took <= s.server.SendTimeout {
		t.Errorf("it took only %s", took)
	}
}

// TestWhatAStreamHasTakenIsFreeWhenItsMessagesAre has a stream end because its client takes
// nothing.
func TestWhatAStreamHasTakenIsFreeWhenItsMessagesAre(t *testing.T) {
	s := defaults()
	s.server.SendTimeout = time.Second
	var log telemetrytest.Log
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	var released atomic.Bool
	r := s.startAnswering(t, &answering{size: 1 << 20, whole: true,
		begun: func(ctx context.Context) { WhenSent(ctx, func() { released.Store(true) }) }})
	client := dialUnread(t, r.address)
	stream := client.begin(paths[1].path)
	eventually(t, "the stream has ended", func() bool {
		return r.handled(t, "StreamingOutputCall", "DeadlineExceeded") == 1
	})
	if released.Load() {
		t.Error("it is free while the transport has the messages")
	}
	client.untilClosed()
	if client.ended[stream] != nil {
		t.Errorf("the client got %v before the messages", client.ended[stream])
	}
	eventually(t, "it is free", released.Load)
	if !strings.Contains(log.String(), "connections closed whose clients did not take the replies") {
		t.Errorf("logged %s", log.String())
	}
}

// TestAHandlerThatWaitsForTheTransportDoesNotWaitForEver has one send a message that its client
// does not take, and nothing more.
func TestAHandlerThatWaitsForTheTransportDoesNotWaitForEver(t *testing.T) {
	s := defaults()
	s.server.SendTimeout = 300 * time.Millisecond
	r := s.startAnswering(t, &answering{size: 1000, wait: true})
	client := dialUnread(t, r.address)
	client.begin(paths[3].path)
	eventually(t, "the stream has ended", func() bool {
		return r.handled(t, "FullDuplexCall", "DeadlineExceeded") == 1
	})
}

// TestOneCallerDoesNotFillMemoryWithReplies has it leave more than there is room for.
func TestOneCallerDoesNotFillMemoryWithReplies(t *testing.T) {
	s := defaults()
	s.server.MaxReceiveBytes, s.server.ArrivingBytes = 1<<10, 1<<20
	r := s.startAnswering(t, &answering{size: 300 << 10})
	client := dialUnread(t, r.address)
	for range 4 { // before any of them counts
		client.begin(paths[0].path)
	}
	another := dialUnreadFrom(t, "127.0.0.2", r.address)
	another.begin(paths[0].path)
	// call is one whose reply is taken.
	call := func(from *frames, path string) codes.Code {
		stream := from.begin(path)
		from.must(from.WriteWindowUpdate(0, 1<<20))
		from.must(from.WriteWindowUpdate(stream, 1<<20))
		return from.end(stream).Code()
	}
	for caller, address := range map[string]string{
		"the caller": "127.0.0.1", "one that leaves less than its share": "127.0.0.2",
	} {
		from := dialFramesFrom(t, address, r.address)
		eventually(t, caller+" is refused", func() bool {
			return call(from, paths[3].path) == codes.ResourceExhausted
		})
		if st := from.end(from.begin(healthpb.Health_Check_FullMethodName)); st.Code() != codes.OK {
			t.Errorf("a check of health got %v", st)
		}
	}
	for _, path := range paths {
		if code := call(dialFramesFrom(t, "127.0.0.3", r.address), path.path); code != codes.OK {
			t.Errorf("%s: a caller that leaves nothing got %v", path.mode, code)
		}
	}
	_ = client.conn.Close()
	for _, address := range []string{"127.0.0.1", "127.0.0.2"} {
		from := dialFramesFrom(t, address, r.address)
		eventually(t, "it is served", func() bool { return call(from, paths[0].path) == codes.OK })
	}
}

// TestAReplyThatCannotBeEncodedIsAFailure has text in a reply that is not UTF-8.
func TestAReplyThatCannotBeEncodedIsAFailure(t *testing.T) {
	s := defaults()
	var log telemetrytest.Log
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	r := s.startService(t, func(registrar grpc.ServiceRegistrar) {
		grpc_testing.RegisterTestServiceServer(registrar, garbled{})
	})
	_, err := r.stub.UnaryCall(testContext(t), &grpc_testing.SimpleRequest{})
	if st := status.Convert(err); st.Code() != codes.Internal || st.Message() != internalText {
		t.Errorf("got %v", err)
	}
	stop(t, r)
	if failed := r.handled(t, "UnaryCall", "Internal"); failed != 1 {
		t.Errorf("counted %v times", failed)
	}
	if !strings.Contains(log.String(), "cannot be encoded") ||
		!strings.Contains(log.String(), "UTF-8") {
		t.Errorf("logged %s", log.String())
	}
}

type garbled struct {
	grpc_testing.UnimplementedTestServiceServer
}

func (garbled) UnaryCall(
	context.Context, *grpc_testing.SimpleRequest,
) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Username: "\xff"}, nil
}
