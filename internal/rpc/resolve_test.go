package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

// dialByName connects to a name that only this name server knows, which it
// looks up every 20 ms.
func (n *nameServer) dialByName(t *testing.T, port string) *grpc.ClientConn {
	t.Helper()
	s := defaults()
	s.client.ResolveInterval = 20 * time.Millisecond
	return s.dial(t, "dns://"+n.conn.LocalAddr().String()+"/replicas.test.:"+port)
}

// replicas is one server at two addresses of this machine, which to a client
// are two.
type replicas struct {
	*running
	port string

	mu    sync.Mutex
	calls map[string]map[string]int // by address and connection
	// hold is what the next call waits for, once it has told so.
	hold chan chan struct{}
}

const first, second = "127.0.0.1", "127.0.0.2"

func startReplicas(t *testing.T) *replicas {
	t.Helper()
	r := &replicas{calls: map[string]map[string]int{}, hold: make(chan chan struct{}, 1)}
	r.running = defaults().start(t, r.handle)
	_, r.port, _ = net.SplitHostPort(r.address)
	lis, err := net.Listen("tcp", net.JoinHostPort(second, r.port))
	if err != nil {
		t.Skipf("this machine has no second address: %v", err)
	}
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(lis) }()
	t.Cleanup(func() {
		r.server.grpc.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *replicas) handle(ctx context.Context) error {
	p, _ := peer.FromContext(ctx)
	address, _, _ := net.SplitHostPort(p.LocalAddr.String())
	r.mu.Lock()
	if r.calls[address] == nil {
		r.calls[address] = map[string]int{}
	}
	r.calls[address][p.Addr.String()]++
	r.mu.Unlock()
	select {
	case held := <-r.hold:
		held <- struct{}{}
		<-held
	default:
	}
	return nil
}

// seen is how many calls came to an address, over how many connections.
func (r *replicas) seen(address string) (calls, connections int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.calls[address] {
		calls += n
	}
	return calls, len(r.calls[address])
}

func unaryCall(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	if err := modes[0].call(testContext(t), grpc_testing.NewTestServiceClient(conn), 1); err != nil {
		t.Fatal(err)
	}
}

// TestServersThatComeLateAreFoundSoon has the client fail so often that
// grpc-go's resolver by itself would by now pause for ten seconds and more.
func TestServersThatComeLateAreFoundSoon(t *testing.T) {
	r := defaults().start(t, succeed)
	_, port, _ := net.SplitHostPort(r.address)
	names := startNameServer(t)
	conn := names.dialByName(t, port)
	conn.Connect()
	eventually(t, "six look-ups in vain, of two questions each",
		func() bool { return names.questions() >= 12 })
	if state := conn.GetState(); state == connectivity.Ready {
		t.Fatal("ready without an address")
	}
	names.set(first)
	eventually(t, "the name resolves", func() bool { return conn.GetState() == connectivity.Ready })
	unaryCall(t, conn)
}

// TestNewReplicasAreFoundWhileAllIsWell has no connection end, which is all
// that would make grpc-go ask again.
func TestNewReplicasAreFoundWhileAllIsWell(t *testing.T) {
	r := startReplicas(t)
	names := startNameServer(t, first)
	conn := names.dialByName(t, r.port)
	unaryCall(t, conn)
	names.set(first, second)
	eventually(t, "the second replica gets calls", func() bool {
		unaryCall(t, conn)
		calls, _ := r.seen(second)
		return calls > 0
	})
	before, _ := r.seen(first)
	asked := names.questions()
	eventually(t, "the first still gets calls, ten look-ups later", func() bool {
		unaryCall(t, conn)
		calls, _ := r.seen(first)
		return calls > before && names.questions() > asked+20
	})
	for _, address := range []string{first, second} {
		if _, connections := r.seen(address); connections != 1 {
			t.Errorf("%s: %d connections", address, connections)
		}
	}
}

// TestReplicaThatLeavesDNSKeepsTheCallsThatRun is a scale-down before the
// replica itself has heard of it. A call may hang that begins at the very
// moment: grpc-go 1.85's NewStream then waits for the end of a connection that
// takes no new calls, as long as others run on it. It ends with its deadline.
func TestReplicaThatLeavesDNSKeepsTheCallsThatRun(t *testing.T) {
	r := startReplicas(t)
	names := startNameServer(t, first)
	conn := names.dialByName(t, r.port)
	held, result := make(chan struct{}), make(chan error, 1)
	r.hold <- held
	go func() { result <- modes[3].call(testContext(t), grpc_testing.NewTestServiceClient(conn), 1) }()
	<-held
	names.set(second)
	eventually(t, "calls go to the other replica", func() bool {
		ctx, cancel := context.WithTimeout(testContext(t), time.Second)
		defer cancel()
		err := modes[0].call(ctx, grpc_testing.NewTestServiceClient(conn), 1)
		if err != nil && status.Code(err) != codes.DeadlineExceeded {
			t.Fatal(err)
		}
		calls, _ := r.seen(second)
		return calls > 0
	})
	held <- struct{}{}
	if err := <-result; err != nil {
		t.Errorf("the call that ran: %v", err)
	}
}

// TestAddressThatRefusesIsTriedAgainSoon counts attempts, which by grpc-go's
// own pauses would be ten within a minute and a half.
func TestAddressThatRefusesIsTriedAgainSoon(t *testing.T) {
	r := defaults().start(t, succeed)
	s := defaults()
	s.client.ResolveInterval = 20 * time.Millisecond
	var attempts atomic.Int32
	conn, err := NewClient(s.client, telemetry.Discard(), r.address, s.services,
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			if attempts.Add(1) < 10 {
				return nil, errors.New("refused")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	conn.Connect()
	eventually(t, "ready", func() bool { return conn.GetState() == connectivity.Ready })
}
