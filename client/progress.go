package main

import (
	"fmt"
	"strings"
	"time"

	"example.com/quartet/client/call"
)

// How often progress is shown: a bar has to move, and lines in a log have not to fill it.
const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 2 * time.Second
	barWidth     = 16
)

// progress tells a person how far a transfer is: with a bar on a terminal, and with a line now and then elsewhere.
type progress struct {
	app   *app
	doing string // "downloading", say
	start time.Time
	shown time.Time
	now   call.Progress
	// continued says that another run has begun the transfer; base is what it did, which is not to this one's credit.
	continued bool
	base      int64
}

func (a *app) newProgress(doing string) *progress {
	return &progress{app: a, doing: doing, start: time.Now(), shown: time.Now()}
}

// update is call's callback, once a chunk.
func (p *progress) update(now call.Progress) {
	if p.continued {
		p.base, p.continued = now.Done, false
	}
	p.now = now
	interval, bar := lineInterval, p.app.stderr.width != nil
	if bar {
		interval = barInterval
	}
	if p.app.quiet || time.Since(p.shown) < interval {
		return
	}
	p.shown = time.Now()
	if bar {
		p.app.stderr.show(p.bar() + " " + p.String())
	} else {
		p.app.note("%s %s", p.doing, p)
	}
}

// done says what it came to.
func (p *progress) done(what string) {
	p.app.note("%s: %s in %s, %s/s%s", what, size(p.now.Done), round(time.Since(p.start)), size(p.rate()), p.resumes())
}

// String is how far it is: "1.2 GiB of 3.0 GiB (40%), 98.1 MiB/s, 19s left".
func (p *progress) String() string {
	if p.now.Total <= 0 {
		return fmt.Sprintf("%s, %s/s%s", size(p.now.Done), size(p.rate()), p.resumes())
	}
	left := ""
	if rate := p.rate(); rate > 0 {
		left = fmt.Sprintf(", %s left", round(time.Duration(float64(p.now.Total-p.now.Done)/float64(rate)*float64(time.Second))))
	}
	return fmt.Sprintf("%s of %s (%d%%), %s/s%s%s",
		size(p.now.Done), size(p.now.Total), p.now.Done*100/p.now.Total, size(p.rate()), left, p.resumes())
}

// bar leaves room for the rest in 80 columns.
func (p *progress) bar() string {
	if p.now.Total <= 0 {
		return p.doing
	}
	full := int(min(p.now.Done*barWidth/p.now.Total, barWidth))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
}

// rate is in bytes per second since the beginning.
func (p *progress) rate() int64 {
	return int64(float64(max(p.now.Done-p.base, 0)) / max(time.Since(p.start).Seconds(), 1e-3))
}

func (p *progress) resumes() string {
	switch p.now.Resumes {
	case 0:
		return ""
	case 1:
		return ", 1 resume"
	default:
		return fmt.Sprintf(", %d resumes", p.now.Resumes)
	}
}

// round leaves the digits that a person reads.
func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}
