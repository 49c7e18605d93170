package cost

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// gapsAlone is grpc-go with nothing but a histogram of the time between messages, as ours has one
// among other things. What it adds can be told apart only so, since ours cannot be had without.
func gapsAlone() (*instruments, error) {
	in, out := gapHistogram("grpc_server"), gapHistogram("grpc_client")
	registry := prometheus.NewRegistry()
	registry.MustRegister(in, out)
	return &instruments{
		server:   []grpc.ServerOption{grpc.ChainStreamInterceptor(serverGaps(in))},
		client:   []grpc.DialOption{grpc.WithChainStreamInterceptor(clientGaps(out))},
		registry: registry,
	}, nil
}

func gapHistogram(side string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    side + gapFamily,
		Buckets: []float64{.0001, .001, .005, .01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 300},
	})
}

func serverGaps(h prometheus.Observer) grpc.StreamServerInterceptor {
	return func(
		service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
	) error {
		s := &gapServerStream{ServerStream: stream}
		if info.IsClientStream {
			s.received.to = h
		} else {
			s.sent.to = h
		}
		return handler(service, s)
	}
}

func clientGaps(h prometheus.Observer) grpc.StreamClientInterceptor {
	return func(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, method string,
		streamer grpc.Streamer, o ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		stream, err := streamer(ctx, d, c, method, o...)
		s := &gapClientStream{ClientStream: stream}
		if d.ServerStreams {
			s.received.to = h
		} else {
			s.sent.to = h
		}
		return s, err
	}
}

// gaps is one direction of a stream, which is observed or not.
type gaps struct {
	to    prometheus.Observer
	began time.Time // with the first message
	last  time.Duration
}

// moved observes a message that was sent or received without an error.
func (g *gaps) moved(err error) error {
	if g.to == nil || err != nil {
		return err
	}
	if g.began.IsZero() {
		g.began = time.Now()
		return nil
	}
	now := time.Since(g.began) // It asks one clock where time.Now asks two.
	g.to.Observe((now - g.last).Seconds())
	g.last = now
	return nil
}

type gapServerStream struct {
	grpc.ServerStream
	sent, received gaps
}

func (s *gapServerStream) SendMsg(m any) error { return s.sent.moved(s.ServerStream.SendMsg(m)) }
func (s *gapServerStream) RecvMsg(m any) error {
	return s.received.moved(s.ServerStream.RecvMsg(m))
}

type gapClientStream struct {
	grpc.ClientStream
	sent, received gaps
}

func (s *gapClientStream) SendMsg(m any) error { return s.sent.moved(s.ClientStream.SendMsg(m)) }
func (s *gapClientStream) RecvMsg(m any) error {
	return s.received.moved(s.ClientStream.RecvMsg(m))
}
