package workload

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/client/call"
)

// judge counts the operations of one mode.
type judge struct {
	workload *Workload
	mode     string
	counters counters
	// failing is how many operations in a row have failed.
	failing int
}

// try makes one operation, in its time, and counts it unless it was cut by our own stop.
func (j *judge) try(operation func(context.Context) error) {
	ctx, cancel := context.WithTimeout(j.workload.life, j.workload.config.Timeout)
	defer cancel()
	start := time.Now()
	err := operation(ctx)
	if err != nil && j.workload.life.Err() != nil {
		return
	}
	j.counters.seconds.Observe(time.Since(start).Seconds())
	if err != nil {
		j.counters.bad.Inc()
		j.blame(err)
		return
	}
	j.counters.good.Inc()
	j.praise()
}

// blame logs every answer that is wrong, and of an outage the beginning.
func (j *judge) blame(err error) {
	j.failing++
	switch {
	case isWrong(err):
		j.workload.log.Error("workload: wrong", "mode", j.mode, "error", err)
	case j.failing == 1:
		j.workload.log.Warn("workload: failing", "mode", j.mode, "error", err)
	}
}

// praise logs the end of an outage.
func (j *judge) praise() {
	if j.failing > 0 {
		j.workload.log.Info("workload: working again", "mode", j.mode, "failed", j.failing)
		j.failing = 0
	}
}

// isWrong tells an answer that must never be given from one that is missing or late.
func isWrong(err error) bool {
	for _, wrong := range []error{errWrong, call.ErrChecksum, call.ErrChanged, call.ErrGap, call.ErrProtocol} {
		if errors.Is(err, wrong) {
			return true
		}
	}
	return status.Code(err) == codes.DataLoss
}
