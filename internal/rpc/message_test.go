package rpc

import (
	"context"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

func TestCompressedMessagesAreRefusedUnlessAcceptedInFourModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			for accept, code := range map[bool]codes.Code{false: codes.Unimplemented, true: codes.OK} {
				s := defaults()
				s.server.AcceptCompressed = accept
				r := s.start(t, succeed)
				stub := grpc_testing.NewTestServiceClient(plain(t, r.address,
					grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name))))
				if err := mode.call(testContext(t), stub, 1<<10); status.Code(err) != code {
					t.Errorf("accepted: %v: got %v, want %v", accept, err, code)
				}
				if got := r.sum(t, map[string]string{"grpc_code": "Unimplemented"}) -
					r.sum(t, map[string]string{"grpc_code": "Unimplemented", "grpc_fault": "client"}); got != 0 {
					t.Errorf("%v refusals count as failures of the server", got)
				}
			}
		})
	}
}

func TestAMessageIsNoLargerWhenItIsDecompressed(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := defaults()
			s.server.AcceptCompressed, s.server.MaxReceiveBytes = true, 16<<10
			r := s.start(t, succeed)
			stub := grpc_testing.NewTestServiceClient(plain(t, r.address,
				grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name))))
			if err := mode.call(testContext(t), stub, 1<<20); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("got %v", err)
			}
		})
	}
}

// prefix is what a client sends before a message of so many bytes.
func prefix(size int) []byte { return binary.BigEndian.AppendUint32([]byte{0}, uint32(size)) }

// The client says how long its message is, and is refused before it has sent it.
func TestEachMethodHasALimitOfItsOwn(t *testing.T) {
	const least = 100
	for _, test := range paths {
		t.Run(test.mode, func(t *testing.T) {
			s := defaults()
			s.messageBytes = map[string]int{test.method: least}
			r := s.start(t, succeed)
			client := dialFrames(t, r.address)
			for _, other := range paths {
				stream := client.call(other.path)
				if other == test {
					client.must(client.WriteData(stream, false, prefix(least+1)))
					if st := client.end(stream); st.Code() != codes.ResourceExhausted ||
						!strings.Contains(st.Message(), "101 bytes") {
						t.Errorf("got %v", st)
					}
					continue
				}
				client.must(client.WriteData(stream, true,
					append(prefix(least+4), "\x22\x66"+strings.Repeat("x", least+2)...)))
				// Of garbage.
				if st := client.end(stream); st.Code() != codes.OK && st.Code() != codes.InvalidArgument {
					t.Errorf("%s: got %v", other.mode, st)
				}
			}
		})
	}
}

func TestRequestsAreSmallUnlessTheServiceSaysOtherwise(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			for name, limits := range map[string]map[string]int{
				"by default": nil, "by the service": {"UnaryCall": 2 * requestBytes,
					"StreamingOutputCall": 2 * requestBytes},
			} {
				s := defaults()
				s.messageBytes = limits
				r := s.start(t, succeed)
				err := mode.call(testContext(t), grpc_testing.NewTestServiceClient(plain(t, r.address)),
					requestBytes)
				single := mode.name == "unary" || mode.name == "server stream"
				if refused := status.Code(err) == codes.ResourceExhausted; refused != (single &&
					limits == nil) || !refused && err != nil {
					t.Errorf("%s: a message of somewhat more than %d bytes: %v", name, requestBytes, err)
				}
			}
		})
	}
}

func TestMessageLimitsAreOfMethodsThatExist(t *testing.T) {
	for name, limit := range map[string]int{"Missing": 1, "UnaryCall": 0} {
		s := defaults()
		_, err := NewServer(s.server, telemetry.Discard(), testDomain, []Service{{
			Register:     func(registrar grpc.ServiceRegistrar) { grpc_testing.RegisterTestServiceServer(registrar, &service{}) },
			MessageBytes: map[string]int{name: limit},
		}})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %d: got %v", name, limit, err)
		}
	}
}

// TestLargeMessagesArriveWithinAShareOfMemory begins messages that it does not finish. The server
// asks for no more of them than one caller may have in memory, refuses the rest, and takes the
// message of another caller meanwhile.
func TestLargeMessagesArriveWithinAShareOfMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux are all addresses of 127.0.0.0/8 there")
	}
	const size, window, fit, begun = 1 << 20, 64 << 10, 2, 20
	for _, test := range paths {
		t.Run(test.mode, func(t *testing.T) {
			t.Parallel() // They wait.
			s := defaults()
			s.server.MaxReceiveBytes, s.server.StreamWindowBytes = size+100, window
			s.messageBytes = map[string]int{"UnaryCall": size + 100, "StreamingOutputCall": size + 100}
			s.server.ArrivingBytes, s.server.FirstMessageTimeout = 2*fit*(size+100), 4*time.Second
			r := s.start(t, succeed)
			client := dialFramesFrom(t, "127.0.0.2", r.address)
			for range begun {
				client.must(client.WriteData(client.call(test.path), false, prefix(size)))
			}
			asked, refused := map[uint32]bool{}, 0
			for refused < begun-fit {
				frame, err := client.read()
				client.must(err)
				switch frame := frame.(type) {
				case *http2.WindowUpdateFrame:
					if frame.StreamID != 0 && frame.Increment >= size {
						asked[frame.StreamID] = true
						if len(asked) == 1 { // Some wait now.
							if err := modes[0].call(testContext(t), dialFrom(t, "127.0.0.3", r.address),
								size/2); err != nil {
								t.Errorf("another caller: %v", err)
							}
						}
					}
				case *http2.MetaHeadersFrame:
					if st := client.ended[frame.StreamID]; st.Code() != codes.ResourceExhausted ||
						errorInfo(st).GetReason() != "OVERLOADED" {
						t.Errorf("got %v with %v", st, st.Details())
					}
					refused++
				}
			}
			if len(asked) != fit {
				t.Errorf("the server asked for %d messages, and %d fit", len(asked), fit)
			}
		})
	}
}

// TestAMessageThatHasBegunHasToArrive has streams end whose client stops in the middle of their
// second message.
func TestAMessageThatHasBegunHasToArrive(t *testing.T) {
	for _, test := range paths[2:] {
		t.Run(test.mode, func(t *testing.T) {
			s := defaults()
			s.server.FirstMessageTimeout = 50 * time.Millisecond
			received := make(chan error, 1)
			r := s.startService(t, func(registrar grpc.ServiceRegistrar) {
				grpc_testing.RegisterTestServiceServer(registrar, &draining{received: received})
			})
			client := dialFrames(t, r.address)
			stream := client.call(test.path)
			client.must(client.WriteData(stream, false, []byte(message(0, "")+message(0, "message")[:8])))
			if st := client.end(stream); st.Code() != codes.DeadlineExceeded ||
				errorInfo(st).GetReason() != "IDLE" {
				t.Errorf("got %v with %v", st, st.Details())
			}
			if err := <-received; status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("the handler got %v", err)
			}
			eventually(t, "it is counted", func() bool { return r.faults(t, test.method) == 1 })
		})
	}
}

func TestStreamsHaveToBegin(t *testing.T) {
	for _, test := range paths[2:] {
		t.Run(test.mode, func(t *testing.T) {
			s := defaults()
			s.server.FirstMessageTimeout = 20 * time.Millisecond
			r := s.start(t, succeed)
			client := dialFrames(t, r.address)
			began := time.Now()
			if st := client.end(client.call(test.path)); st.Code() != codes.DeadlineExceeded ||
				errorInfo(st).GetReason() != "IDLE" {
				t.Errorf("got %v with %v", st, st.Details())
			}
			if took := time.Since(began); took < streamFactor*s.server.FirstMessageTimeout {
				t.Errorf("it ended after %s", took)
			}
		})
	}
}

// draining reads its streams to their end.
type draining struct {
	grpc_testing.UnimplementedTestServiceServer
	received chan error
}

func (d *draining) StreamingInputCall(stream grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	return readAll(stream.Recv, d.received)
}

func (d *draining) FullDuplexCall(stream grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	return readAll(stream.Recv, d.received)
}

func readAll[T any](receive func() (*T, error), received chan<- error) error {
	for {
		if _, err := receive(); err != nil {
			received <- err
			return unlessEOF(err)
		}
	}
}

// TestAClientHasToTakeWhatItIsSent has it read the frames of the connection, and open no window of
// the stream.
func TestAClientHasToTakeWhatItIsSent(t *testing.T) {
	sent := make(chan error, 1)
	s := defaults()
	s.server.SendTimeout = 50 * time.Millisecond
	r := s.startService(t, func(registrar grpc.ServiceRegistrar) {
		grpc_testing.RegisterTestServiceServer(registrar, &flooding{sent: sent})
	})
	client := dialFrames(t, r.address)
	client.must(client.WriteData(client.call(paths[1].path), true, []byte(message(0, ""))))
	if err := <-sent; status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the handler got %v", err)
	}
	eventually(t, "it is counted", func() bool { return r.faults(t, paths[1].method) == 1 })
}

// flooding sends until it fails.
type flooding struct {
	grpc_testing.UnimplementedTestServiceServer
	sent chan error
}

func (f *flooding) StreamingOutputCall(_ *grpc_testing.StreamingOutputCallRequest,
	stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
	for {
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: payload(10 << 10)}); err != nil {
			f.sent <- err
			return err
		}
	}
}

func TestStreamsLeaveThePlacesOfUnaryCalls(t *testing.T) {
	s := defaults()
	s.server.MaxInFlight, s.server.MaxInFlightPerCaller = 1, 1
	r := s.start(t, succeed)
	client := dialFrames(t, r.address)
	client.call(paths[3].path)
	r.awaitUnbegun(t)
	if err := modes[0].call(testContext(t), r.stub, 1); err != nil {
		t.Error(err)
	}
	if err := modes[3].call(testContext(t), r.stub, 1); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second stream got %v", err)
	}
}

func TestACallerBeginsSoManyCallsInASecond(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux are all addresses of 127.0.0.0/8 there")
	}
	const perSecond = 5
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			s := defaults()
			s.server.MaxCallsPerSecond = perSecond
			r := s.start(t, func(context.Context) error { return nil })
			greedy, refused := dialFrom(t, "127.0.0.2", r.address), 0
			for range 10 * perSecond {
				if err := mode.call(testContext(t), greedy, 1); status.Code(err) == codes.ResourceExhausted {
					refused++
				} else if err != nil {
					t.Error(err)
				}
			}
			if refused == 0 {
				t.Error("none was refused")
			}
			if err := mode.call(testContext(t), dialFrom(t, "127.0.0.3", r.address), 1); err != nil {
				t.Errorf("another caller: %v", err)
			}
		})
	}
}

func TestMessagesAreCountedInFourModes(t *testing.T) {
	for i, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			const size = 1000
			r := defaults().start(t, succeed)
			if err := mode.call(testContext(t), r.stub, size); err != nil {
				t.Fatal(err)
			}
			stop(t, r)
			labels := map[string]string{"grpc_method": paths[i].method}
			if n := r.sumOf(t, "grpc_server_msg_received_total", labels); n != 1 {
				t.Errorf("%v messages were received", n)
			}
			if n := r.sumOf(t, "grpc_server_msg_received_bytes_total", labels); n < size {
				t.Errorf("%v bytes were received", n)
			}
		})
	}
}
