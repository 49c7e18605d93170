package web_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// TestADrainLetsStreamsEndWhole has a stream in the middle when the drain begins. It ends with all
// of its messages, while one that would not end by itself is told to go on elsewhere.
func TestADrainLetsStreamsEndWhole(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			held := &service{entered: make(chan struct{}, 1), release: make(chan struct{})}
			s := start(t, held)
			stream, err := downloadClient(t, s, p).CallServerStream(apptest.Deadline(t),
				connect.NewRequest(sizes(1000, 400_000, 400_000)))
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			<-held.entered
			var both *connect.BidiStreamForClient[grpc_testing.StreamingOutputCallRequest,
				grpc_testing.StreamingOutputCallResponse]
			if p.h2c {
				both = clientOf[grpc_testing.StreamingOutputCallRequest,
					grpc_testing.StreamingOutputCallResponse](t, s, p, talk).CallBidiStream(apptest.Deadline(t))
				if err := both.Send(&grpc_testing.StreamingOutputCallRequest{}); err != nil {
					t.Fatal(err)
				}
				if _, err := both.Receive(); err != nil {
					t.Fatal(err)
				}
			}
			stopped := make(chan error, 1)
			go func() { stopped <- s.Stop() }()
			<-held.draining
			if both != nil {
				_, err := both.Receive()
				wantError(t, err, connect.CodeUnavailable, "STOPPING")
				_, _ = both.CloseRequest(), both.CloseResponse()
			}
			select {
			case err := <-stopped:
				t.Fatalf("the drain did not wait for the stream: %v", err)
			case <-time.After(200 * time.Millisecond):
			}
			close(held.release)
			received := 0
			for stream.Receive() {
				received += len(stream.Msg().GetPayload().GetBody())
			}
			if stream.Err() != nil || received != 801_000 {
				t.Errorf("received %d bytes: %v", received, stream.Err())
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestADrainCutsWhatDoesNotEnd keeps to the budget when a client does not read and when a stream
// goes on.
func TestADrainCutsWhatDoesNotEnd(t *testing.T) {
	held := &service{entered: make(chan struct{}, 1), release: make(chan struct{})}
	s := start(t, held, "TEST_DRAIN_BUDGET=3s")
	stream, err := downloadClient(t, s, protocols[0]).CallServerStream(apptest.Deadline(t),
		connect.NewRequest(sizes(1000, 1000)))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	<-held.entered
	began := time.Now()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 4*time.Second || took < time.Second {
		t.Errorf("it took %s", took)
	}
	for stream.Receive() {
	}
	if stream.Err() == nil {
		t.Error("the stream that was cut looks whole")
	}
}

// TestACallerThatReadsSlowlyLearnsAtOnceThatItIsCut has callers that have not read their answers
// when the drain cuts them. In a cluster they would wait for the rest, which never comes: the
// network of a pod ends with its programs.
func TestACallerThatReadsSlowlyLearnsAtOnceThatItIsCut(t *testing.T) {
	message, err := proto.Marshal(sizes(slices.Repeat([]int32{1_000_000}, 64)...))
	if err != nil {
		t.Fatal(err)
	}
	says := request(download, "application/connect+proto", 5+len(message)) +
		string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))) + string(message)
	for _, secured := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secured), func(t *testing.T) {
			settings, authority := []string{"TEST_DRAIN_BUDGET=3s"}, apptest.NewAuthority(t)
			if secured {
				settings = append(settings, authority.Settings(t)...)
			}
			s := start(t, &service{}, settings...)
			conn := raw(t, s, "")
			if secured {
				config := authority.Client(t, "spiffe://test/slow")
				config.ServerName = local
				conn = tls.Client(conn, config)
			}
			if _, err := io.WriteString(conn, says); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, conn); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the answer ends with %v", err)
			}
		})
	}
}

// slow is a service whose handler needs a moment after its context has ended.
type slow struct {
	service
	began, returned chan struct{}
}

func (s *slow) StreamingOutputCall(_ *grpc_testing.StreamingOutputCallRequest,
	stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
	close(s.began)
	<-stream.Context().Done()
	<-time.After(400 * time.Millisecond) // This is the moment.
	close(s.returned)
	return stream.Context().Err()
}

// TestWhatHandlersUseIsClosedAfterTheyHaveReturned has a drain cut a call.
func TestWhatHandlersUseIsClosedAfterTheyHaveReturned(t *testing.T) {
	s := &slow{began: make(chan struct{}), returned: make(chan struct{})}
	early := false
	guest := app.Service{Name: "guest",
		Open: func(context.Context, app.Host) (app.Opened, error) {
			return app.Opened{Service: rpc.Service{Register: func(r grpc.ServiceRegistrar) {
				grpc_testing.RegisterTestServiceServer(r, s)
			}}, Close: func(context.Context) error {
				select {
				case <-s.returned:
				default:
					early = true
				}
				return nil
			}}, nil
		}}
	server := apptest.Start(t, telemetry.Discard(), []app.Service{guest},
		"TEST_WEB_ADDRESS=127.0.0.1:0", "TEST_DRAIN_BUDGET=5s")
	go func() {
		stream, err := downloadClient(t, server, protocols[0]).CallServerStream(t.Context(),
			connect.NewRequest(sizes(1000)))
		if err == nil {
			_ = stream.Close()
		}
	}()
	<-s.began
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
	if early {
		t.Error("what the handler used was closed before it returned")
	}
}

// TestSilentConnectionsDoNotHoldUpTheDrain has connections that brought nothing, half a request,
// and a whole one before.
func TestSilentConnectionsDoNotHoldUpTheDrain(t *testing.T) {
	for name, says := range map[string]string{
		"nothing":          "",
		"half the headers": "POST /",
		"half a handshake": "PRI * HTTP/2.0",
		"a handshake":      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"half a request":   request(unary, "application/json", 10) + "{",
		"an answered one":  request(unary, "application/json", 2) + "{}",
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, &service{})
			conn := raw(t, s, says)
			if says != "" && says[len(says)-1] == '}' {
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			} else {
				waitAccepted(t, s, conn)
			}
			began := time.Now()
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// waitAccepted waits until the server has accepted a connection: one that comes after it is
// answered.
func waitAccepted(t *testing.T, s *apptest.Server, _ net.Conn) {
	t.Helper()
	later := raw(t, s, request(unary, "application/json", 2)+"{}")
	if _, err := later.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = later.Close()
}
