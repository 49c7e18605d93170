package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc/resolver"
)

// polling is grpc-go's DNS resolver, started anew every interval. Left to
// itself that one never asks again after a success unless a connection ends, so
// that new replicas get no calls; and while a name has no address it pauses for
// up to two minutes, deaf to ResolveNow, so that a client which was started
// before its servers finds them late. No option of it changes either. A fresh
// one asks at once. Addresses that it finds again keep their connections, and
// those that are gone keep only the calls that run.
type polling struct {
	resolver.Builder
	interval time.Duration
}

func pollDNS(interval time.Duration) polling { return polling{resolver.Get("dns"), interval} }

// Build resolves target until the resolver is closed. A target that cannot be
// resolved at all is reported as a name without an answer is, as grpc-go does
// with an error that is returned from here.
func (p polling) Build(
	target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions,
) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &poller{stop: cancel, stopped: make(chan struct{})}
	go func() {
		defer close(r.stopped)
		for ctx.Err() == nil {
			p.ask(ctx, target, cc, opts)
		}
	}()
	return r, nil
}

// ask starts a resolver, and ends it an interval after its first answer. A slow
// look-up is not disturbed, or it would be started over for ever; after a
// failed one the resolver's own first, short pauses hold.
func (p polling) ask(
	ctx context.Context, target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions,
) {
	heard := listener{cc, make(chan struct{}, 1)}
	if r, err := p.Builder.Build(target, heard, opts); err != nil {
		heard.ReportError(err)
	} else {
		defer r.Close()
	}
	select {
	case <-heard.answer:
	case <-ctx.Done():
		return
	}
	select {
	case <-time.After(p.interval):
	case <-ctx.Done():
	}
}

// listener passes on what a resolver finds out, and notes that there was
// something.
type listener struct {
	resolver.ClientConn
	answer chan struct{}
}

func (l listener) UpdateState(state resolver.State) error {
	defer l.note()
	return l.ClientConn.UpdateState(state)
}

func (l listener) ReportError(err error) {
	defer l.note()
	l.ClientConn.ReportError(err)
}

func (l listener) note() {
	select {
	case l.answer <- struct{}{}:
	default:
	}
}

// poller is what gRPC knows of the goroutine that asks.
type poller struct {
	stop    context.CancelFunc
	stopped chan struct{}
}

// ResolveNow does nothing: the next look-up is never further away than two
// look-ups have to be apart.
func (*poller) ResolveNow(resolver.ResolveNowOptions) {}

// Close returns when no lookup is under way.
func (p *poller) Close() {
	p.stop()
	<-p.stopped
}
