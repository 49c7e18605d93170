package main

import (
	"context"
	"time"

	"example.com/quartet/internal/lifecycle"
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
	s.probes.SetReady(false)
	return nil
}

// endWork stops the workload, and cuts the operations that do not end in time. That is no failure of ours: a download
// may take as long as its timeout.
func (s *service) endWork(ctx context.Context) error {
	s.stopWork()
	select {
	case <-s.worked:
		return nil
	case <-ctx.Done():
	}
	s.telemetry.Log.Warn("operations under way are cut")
	s.workload.Cut()
	<-s.worked
	return nil
}

// lastScrape waits until the final numbers have been fetched.
func (s *service) lastScrape(ctx context.Context) error {
	s.telemetry.AwaitScrape(ctx, s.config.Drain.ScrapeWait)
	return nil
}
