package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// The goals. A row misses one if what was measured is above it.
const (
	// memoryShare is how much of its memory limit a server may have resident.
	memoryShare = 0.95
	// slower is how many times longer the neighbour's lookups may take than in the quiet time, in the
	// 99th percentile; slowerByFlood is that for attacks that are nothing but many calls.
	slower, slowerByFlood = 3, 10
	// noise is what lookups may take whatever they took in the quiet time: on few processors the
	// attacker and what else runs there make as much of a difference.
	noise = 20 * time.Millisecond
	// logPerMinute is how many bytes the log may grow by in a minute.
	logPerMinute = 1 << 20
	// heldMore is how many bytes, and goroutines, a server may hold more after an attack than before
	// it. The neighbour's own calls are among them.
	heldMore, goroutinesMore = 8 << 20, 50
	// storedMore is how many bytes, and files, may stay that no limit counts. The neighbour's own are
	// among them.
	storedMore, filesMore = 4 << 20, 50
)

// result is what was measured of a row.
type result struct {
	row      row
	load     load
	limit    int64
	duration time.Duration
	remote   bool // the server is no child: only what the neighbour notices is measured
	died     bool

	quiet, attacked, recovered notes
	answers                    map[string]int
	peak, resident, logged     int64
	before, after              held
	released                   time.Duration
	storedBefore, storedAfter  usage

	missed []string
}

func (r *result) hasReleased() bool {
	return r.after.bytes-r.before.bytes <= heldMore &&
		r.after.goroutines-r.before.goroutines <= goroutinesMore
}

// ratio is how many times longer lookups took.
func (r *result) ratio() float64 {
	of, to := quantile(r.attacked.lookups, .99), quantile(r.quiet.lookups, .99)
	if to == 0 {
		return math.NaN()
	}
	return float64(of) / float64(to)
}

func (r *result) perMinute() int64 {
	return int64(float64(r.logged) * float64(time.Minute) / float64(r.duration))
}

// missedTime is a goal that a busy machine can make a row miss.
const missedTime = "p99"

// compare finds out which goals the row has missed.
func (r *result) compare() {
	miss := func(is bool, format string, values ...any) {
		if is {
			r.missed = append(r.missed, fmt.Sprintf(format, values...))
		}
	}
	miss(r.quiet.failed > 0, "the neighbour fails in the quiet time: %s", r.quiet.failure)
	miss(r.died, "the server ended")
	miss(float64(r.peak) > memoryShare*float64(r.limit), "memory")
	miss(r.attacked.failed > 0, "neighbour")
	miss(
		r.recovered.failed+r.recovered.dead > 0,
		"the neighbour fails after the attack: %s",
		r.recovered.failure,
	)
	miss(r.attacked.dead > 0, "liveness")
	allowed := slower
	if r.row.flood {
		allowed = slowerByFlood
	}
	late := quantile(r.attacked.lookups, .99)
	miss(len(r.attacked.lookups) == 0, "no lookup ended")
	if r.remote || r.died {
		return
	}
	miss(late > noise && r.ratio() > float64(allowed), missedTime)
	miss(!r.hasReleased(), "release")
	miss(r.perMinute() > logPerMinute, "log")
	if r.row.keeps == "" {
		miss(
			r.storedAfter.bytes-r.storedBefore.bytes > storedMore ||
				r.storedAfter.files-r.storedBefore.files > filesMore,
			"stored",
		)
	}
}

// quantile is the value that a share q of sorted values does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf(
		"%.*f",
		max(0, 1-int(math.Log10(max(1, float64(d.Milliseconds()))))),
		float64(d)/float64(time.Millisecond),
	)
}

// report prints the table.
func report(out io.Writer, o *options, results []*result) error {
	if len(results) == 0 {
		return nil
	}
	where := fmt.Sprintf("A server with a memory limit of %d MiB", o.memory)
	if results[0].remote {
		where = "A server that ran already"
	}
	var text strings.Builder
	fmt.Fprintf(
		&text,
		"%s, %v of each attack; memory in MiB, times of lookups in ms, the log in KB a minute.\n\n",
		where,
		o.duration,
	)
	lines := [][]string{
		{
			"attack",
			"load",
			"peak",
			"neighbour: failed",
			"p50 quiet → attacked",
			"p99 quiet → attacked",
			"×",
			"liveness failed",
			"log",
			"held before → after",
			"stored more: files, KiB",
			"misses",
		},
	}
	for _, r := range results {
		lines = append(lines, r.cells())
	}
	rule := slices.Repeat([]string{"---"}, len(lines[0]))
	for _, line := range slices.Insert(lines, 1, rule) {
		fmt.Fprintf(&text, "| %s |\n", strings.Join(line, " | "))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func (r *result) cells() []string {
	between := func(q float64) string {
		return milliseconds(
			quantile(r.quiet.lookups, q),
		) + " → " + milliseconds(
			quantile(r.attacked.lookups, q),
		)
	}
	cells := []string{
		r.row.name,
		r.load.String(),
		"–",
		fmt.Sprintf("%d of %d", r.attacked.failed, r.attacked.calls),
		between(.5),
		between(.99),
		fmt.Sprintf(
			"%.1f",
			r.ratio(),
		),
		fmt.Sprintf("%d of %d", r.attacked.dead, r.attacked.probes),
		"–",
		"–",
		"–",
		strings.Join(r.missed, ", "),
	}
	if !r.remote && !r.died {
		cells[2] = fmt.Sprint(r.peak >> 20)
		cells[8] = fmt.Sprint(r.perMinute() >> 10)
		cells[9] = fmt.Sprintf("%d → %d", r.before.bytes>>20, r.after.bytes>>20)
		cells[10] = fmt.Sprintf(
			"%d, %d",
			r.storedAfter.files-r.storedBefore.files,
			(r.storedAfter.bytes-r.storedBefore.bytes)>>10,
		)
	}
	return cells
}
