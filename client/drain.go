package main

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"example.com/quartet/internal/lifecycle"
	"example.com/quartet/internal/rpc"
)

// slack is what a step may take beyond the time that it waits on purpose.
const slack = time.Second

// drain is how the service ends: nobody sends it anything new, what is under way ends, and what it has counted and
// traced is fetched and sent while there is still somebody to ask.
func (s *service) drain() []lifecycle.Step {
	drain := s.config.Drain
	return []lifecycle.Step{
		{Name: "unready", Timeout: slack, Do: s.turnUnready},
		{Name: "delay", Timeout: drain.Delay + slack, Do: func(ctx context.Context) error {
			lifecycle.Sleep(ctx, drain.Delay)
			return nil
		}},
		{Name: "workload", Timeout: drain.Timeout, Do: s.endWork},
		{Name: "connections", Timeout: slack, Do: func(context.Context) error { return s.connections.close() }},
		{Name: "scrape", Timeout: drain.ScrapeWait + slack, Do: s.lastScrape},
		{Name: "traces", Timeout: flushTime, Do: s.telemetry.Shutdown},
	}
}

func (s *service) turnUnready(context.Context) error {
	s.telemetry.BeginDrain()
	s.probes.SetReady(false)
	return nil
}

// endWork stops the workload, and cuts the operations that do not end in time, or that nobody is there to end. That is
// no failure of ours: a download may take as long as its timeout, and servers that are uninstalled with us may be gone
// first.
func (s *service) endWork(ctx context.Context) error {
	s.stopWork()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hopeless := make(chan string, 1)
	go func() { hopeless <- s.hopeless(ctx) }()
	select {
	case <-s.worked:
		return nil
	case why := <-hopeless:
		s.telemetry.Log.Warn("operations under way are cut", "because", why)
	}
	s.workload.Cut()
	<-s.worked
	return nil
}

// absence is how long servers may be away before operations are given up: longer than a client needs to reach the next
// replica when one of several ends. A server that drains as we do counts as away too, and what of ours it is busy with
// it has nearly always ended by then.
const absence = 2 * time.Second

// hopeless returns, with the reason, when operations under way cannot end any more: neither service has a server that
// takes calls, or ctx is done. While one service has, operations on it may succeed, and those of the other wait with them.
func (s *service) hopeless(ctx context.Context) string {
	var services sync.WaitGroup
	for _, conn := range []*grpc.ClientConn{s.connections.objects, s.connections.channels} {
		services.Go(func() { _ = rpc.WaitGone(ctx, conn, absence) }) // Its error is that of ctx.
	}
	services.Wait()
	if ctx.Err() != nil {
		return "out of time"
	}
	return "servers are gone"
}

// lastScrape waits until the final numbers have been fetched.
func (s *service) lastScrape(ctx context.Context) error {
	s.telemetry.AwaitScrape(ctx, s.config.Drain.ScrapeWait)
	return nil
}
