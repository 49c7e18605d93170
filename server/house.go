package main

import (
	"context"
	"math/rand/v2"
	"time"

	"example.com/quartet/internal/lifecycle"
)

// longestPause is how long a round of housekeeping waits for the next one at most, whatever the time to live.
const longestPause = time.Hour

// keepHouse counts and tidies the store, at the start and then from time to time, until the server drains. Every replica
// does; they do not get in each other's way.
func (s *server) keepHouse(ctx context.Context) error {
	working, stop := s.untilDrain(ctx)
	defer stop()
	s.keepTidying(working)
	<-ctx.Done() // A service that returned earlier would end the process.
	return nil
}

// untilDrain returns a context that ends with the drain, which closes the store.
func (s *server) untilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	working, stop := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.draining:
			stop()
		case <-working.Done():
		}
	}()
	return working, stop
}

// keepTidying lets nothing stay for much longer than its time to live. Parts are swept no more often than that needs,
// because it costs two reads for each object. What fails is tried again in the next round.
func (s *server) keepTidying(ctx context.Context) {
	interval := s.cfg.Objects.UploadTTL / 10
	var swept time.Time
	for ctx.Err() == nil {
		s.countObjects(ctx)
		s.tidy(ctx, "abandoned and forgotten uploads", s.store.Expire)
		if time.Since(swept) >= interval && s.tidy(ctx, "unreferenced parts", s.store.Sweep) {
			swept = time.Now()
		}
		lifecycle.Sleep(ctx, jitter(min(interval, longestPause)))
	}
}

// jitter returns half to all of a duration, so that replicas which were started together do not work in step.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }

func (s *server) countObjects(ctx context.Context) {
	if err := s.store.Count(ctx); err != nil && ctx.Err() == nil {
		s.telemetry.Log.Warn("counting what is stored failed", "error", err)
	}
}

// tidy removes what is older than the time to live, and logs what was done. The end of the server is no failure.
func (s *server) tidy(ctx context.Context, what string, remove func(context.Context, time.Time) (int, error)) (done bool) {
	removed, err := remove(ctx, time.Now().Add(-s.cfg.Objects.UploadTTL))
	if removed > 0 {
		s.telemetry.Log.Info("removed "+what, "count", removed)
	}
	if err != nil && ctx.Err() == nil {
		s.telemetry.Log.Warn("removing "+what+" failed", "error", err)
	}
	return err == nil
}
