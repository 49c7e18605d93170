package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// attacker is one caller, with some connections and some calls at once on each.
type attacker struct {
	target
	load    load
	answers answers
	// window is how much the server may send on a stream of eachOnWire before it is read.
	window uint32
	// slow is the pause after a call that has failed.
	slow time.Duration

	mu    sync.Mutex
	conns []*grpc.ClientConn
}

// refusedPause is how long an attacker that wants to hold on to something waits before it tries
// again.
const refusedPause = time.Second

func newAttacker(t target, l load) *attacker {
	return &attacker{target: t, load: l, window: defaultWindow, slow: refusedPause}
}

func (a *attacker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, conn := range a.conns {
		_ = conn.Close()
	}
}

// answers counts how calls ended, by the names of their codes.
type answers struct {
	mu    sync.Mutex
	count map[string]int
}

func (a *answers) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == nil {
		a.count = map[string]int{}
	}
	a.count[name]++
}

// addError adds why something was exhausted, which is not always a share.
func (a *answers) addError(err error) {
	name := status.Code(err).String()
	if status.Code(err) == codes.ResourceExhausted {
		name += fmt.Sprintf(": %.60s", status.Convert(err).Message())
	}
	a.add(name)
}

func (a *answers) all() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.count)
}

// dial opens a connection with the smallest windows of streams that grpc-go has, so that the server
// keeps what is not read; the attacker closes it.
func (a *attacker) dial() (*grpc.ClientConn, error) {
	conn, err := dial(
		a.GRPC,
		"",
		grpc.WithInitialWindowSize(defaultWindow),
		grpc.WithInitialConnWindowSize(16<<20),
	)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns = append(a.conns, conn)
	return conn, nil
}

// dial opens a connection from an address of this machine, if there is one.
func dial(address, from string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	dialer := net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return grpc.NewClient("passthrough:///"+address, append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20), grpc.MaxCallSendMsgSize(8<<20)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))...)
}

// defaultWindow is what HTTP/2 has.
const defaultWindow = 64<<10 - 1

// each has as many goroutines as the load says do something, each with the connection that is its
// own or shared, and its number. They do it again until the context ends: at once if it went well,
// after a pause if not.
func (a *attacker) each(
	ctx context.Context,
	do func(ctx context.Context, conn *grpc.ClientConn, n int) error,
) {
	var all sync.WaitGroup
	defer all.Wait()
	for c := range a.load.connections {
		conn, err := a.dial()
		if err != nil {
			a.answers.addError(err)
			continue
		}
		for s := range a.load.streams {
			all.Go(func() {
				for ctx.Err() == nil {
					if a.repeat(ctx, do(ctx, conn, c*a.load.streams+s)) != nil {
						pause(ctx, a.slow)
					}
				}
			})
		}
	}
}

// eachOnWire is the same with connections that send what no library would.
func (a *attacker) eachOnWire(
	ctx context.Context,
	address string,
	do func(ctx context.Context, w *wire, n int) error,
) {
	var all sync.WaitGroup
	defer all.Wait()
	for range a.load.connections {
		all.Go(func() {
			for ctx.Err() == nil {
				a.onWire(ctx, address, do)
				if ctx.Err() == nil {
					a.answers.add("connection closed")
					pause(ctx, a.slow)
				}
			}
		})
	}
}

// onWire has one connection, until it is closed.
func (a *attacker) onWire(
	ctx context.Context,
	address string,
	do func(ctx context.Context, w *wire, n int) error,
) {
	w, err := dialWire(ctx, address, a.window)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, w.close)
	var all sync.WaitGroup
	defer all.Wait()
	for n := range a.load.streams {
		all.Go(func() {
			for ctx.Err() == nil && !w.isClosed() {
				if a.repeat(ctx, do(ctx, w, n)) != nil {
					pause(ctx, a.slow)
				}
			}
		})
	}
}

// repeat notes how a call ended, unless the attack was over.
func (a *attacker) repeat(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		a.answers.addError(err)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// raw is a codec for messages that are bytes already.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = data
	return nil
}

// ended waits for the status that a stream ends with. Replies that the attacker has not read may
// come before it.
func ended(stream grpc.ClientStream, err error) error {
	if stream == nil {
		return err
	}
	for {
		if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
			return err
		}
	}
}

// sendBytes calls unary methods with a request that is bytes already.
func (a *attacker) sendBytes(
	body func(n int) []byte,
) func(ctx context.Context, conn *grpc.ClientConn, n int) error {
	return func(ctx context.Context, conn *grpc.ClientConn, n int) error {
		request, reply := body(n), []byte(nil)
		return conn.Invoke(ctx, pick(unaryMethods(), n), &request, &reply, grpc.ForceCodec(raw{}))
	}
}
