package object

import (
	"context"
	"math/rand/v2"
	"time"

	"example.com/quartet/internal/rpc"
)

// longestPause is how long a round of housekeeping waits for the next one at most, whatever the time to live.
const longestPause = time.Hour

// keepHouse counts what is stored and removes what nothing needs any more, at the start and then from time to time, until
// ctx is done. Every replica does; they do not get in each other's way. Nothing stays for much longer than its time to live.
// Parts are swept no more often than that needs, because it costs two reads for each object. What fails is tried again in
// the next round.
func (s *service) keepHouse(ctx context.Context) {
	interval := s.config.UploadTTL / 10
	var swept time.Time
	for ctx.Err() == nil {
		s.countObjects(ctx)
		s.remove(ctx, "abandoned and forgotten uploads", s.store.Expire)
		if time.Since(swept) >= interval && s.remove(ctx, "unreferenced parts", s.store.Sweep) {
			swept = time.Now()
		}
		_ = rpc.Sleep(ctx, jitter(min(interval, longestPause))) // The loop asks ctx itself.
	}
}

// jitter returns half to all of a duration, so that replicas which were started together do not work in step.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }

func (s *service) countObjects(ctx context.Context) {
	if err := s.store.Count(ctx); err != nil && ctx.Err() == nil {
		s.host.Telemetry.Log.Warn("counting what is stored failed", "error", err)
	}
}

// remove removes what is older than the time to live, and logs what was done. The end of the server is no failure.
func (s *service) remove(ctx context.Context, what string, remove func(context.Context, time.Time) (int, error)) (done bool) {
	removed, err := remove(ctx, time.Now().Add(-s.config.UploadTTL))
	if removed > 0 {
		s.host.Telemetry.Log.Info("removed "+what, "count", removed)
	}
	if err != nil && ctx.Err() == nil {
		s.host.Telemetry.Log.Warn("removing "+what+" failed", "error", err)
	}
	return err == nil
}
