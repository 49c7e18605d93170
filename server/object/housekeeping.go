package object

import (
	"context"
	"math/rand/v2"
	"time"

	"example.com/quartet/internal/rpc"
)

// maxPause is the longest pause between two rounds of housekeeping, whatever the time to live.
const maxPause = time.Hour

// housekeeping counts what is stored and removes uploads that were abandoned, at the start and then
// from time to time, until ctx is done, which is when the drain begins. All replicas do so,
// independently of each other. What fails is logged and tried again in the next round.
func (s *service) housekeeping(ctx context.Context) {
	log := s.host.Telemetry.Log
	for ctx.Err() == nil {
		// The number of the last round is still the best there is.
		if err := s.engine.Count(ctx); err != nil && ctx.Err() == nil {
			log.Warn("counting what is stored failed", "error", err)
		}
		before := time.Now().Add(-s.config.UploadTTL)
		abandoned, err := s.engine.Expire(ctx, before, s.leases.try)
		if abandoned > 0 {
			s.metrics.expired.Add(float64(abandoned))
			log.Info("removed abandoned uploads", "count", abandoned)
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("removing abandoned uploads failed", "error", err)
		}
		s.limits.expire(before, s.leases.busy)
		_ = rpc.Sleep(ctx, jitter(min(s.config.UploadTTL/10, maxPause))) // The loop asks ctx itself.
	}
}

// jitter returns half to all of a duration, so that replicas which were started together do not
// work in step.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2) }
