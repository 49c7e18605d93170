package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// prepareTime is how long a row may take to have the server hold what it needs.
	prepareTime = 90 * time.Second
	// releaseTime is how long a server may take to let go of what an attack has made it hold.
	releaseTime = 10 * time.Second
	// recovery is how long the neighbour is observed after that.
	recovery = time.Second
)

// run runs rows, prints what each gave as it comes to an end and then the table. It fails if a goal
// is missed.
func (o *options) run(ctx context.Context, out io.Writer, rows []row) error {
	var results []*result
	missed := 0
	for _, r := range rows {
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d rows were run: %w", len(results), len(rows), context.Cause(ctx))
		}
		result, err := o.try(ctx, r)
		if err == nil && slices.Equal(result.missed, []string{missedTime}) {
			// What else the machine does delays lookups too, but seldom twice.
			fmt.Fprintf(os.Stderr, "%-18s %s; once more\n", r.name, result.summary())
			result, err = o.try(ctx, r)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", r.name, err), report(out, o, results))
		}
		fmt.Fprintf(os.Stderr, "%-18s %s\n", r.name, result.summary())
		if len(result.missed) > 0 {
			missed++
		}
		results = append(results, result)
	}
	if err := report(out, o, results); err != nil {
		return err
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d rows miss a goal", missed, len(results))
	}
	return nil
}

// try runs a row, against a server of its own unless there is one.
func (o *options) try(ctx context.Context, r row) (*result, error) {
	t := o.attacked
	var s *server
	if t.GRPC == "" {
		var err error
		if s, err = startServer(ctx, o.server, o.folder, o.memory, r.disk, r.set...); err != nil {
			return nil, err
		}
		defer s.close()
		t = s.target
	}
	if r.prepare != nil {
		within, cancel := context.WithTimeout(ctx, prepareTime)
		err := r.prepare(within, t, r.amount)
		cancel()
		if err != nil {
			return nil, err
		}
	}
	neighbours := t
	if o.remote != "" {
		neighbours.GRPC = o.remote
	}
	n, err := startNeighbour(ctx, neighbours, timeout, lookupsAtOnce)
	if err != nil {
		return nil, err
	}
	defer n.close()
	result := &result{
		row:      r,
		load:     o.load.or(r.load),
		limit:    o.memory << 20,
		duration: o.duration,
		remote:   s == nil,
	}
	pause(ctx, time.Second) // The first calls are those of a new connection.
	n.enter(quiet)
	profiled := o.profile(ctx, s, r.name+"-quiet")
	pause(ctx, o.duration)
	if err := <-profiled; err != nil {
		return nil, err
	}
	if err := result.begin(ctx, s); err != nil {
		return nil, err
	}
	n.enter(attacked)
	profiled = o.profile(ctx, s, r.name+"-attacked")
	err = o.attack(ctx, r, t, result)
	n.enter(after)
	if err := errors.Join(err, <-profiled); err != nil {
		return nil, err
	}
	if s != nil && s.ended() {
		result.died = true
	} else if err := result.end(ctx, s); err != nil {
		return nil, err
	}
	result.quiet, result.attacked = n.in(ctx, quiet), n.in(ctx, attacked)
	n.enter(recovered)
	pause(ctx, recovery)
	result.recovered = n.in(ctx, recovered)
	if result.compare(); result.died {
		fmt.Fprintln(os.Stderr, s.log.tail())
	}
	return result, ctx.Err()
}

// profile writes a CPU profile of the server while an attack, or the quiet time before it, lasts,
// if profiles are wanted.
func (o *options) profile(ctx context.Context, s *server, name string) <-chan error {
	done := make(chan error, 1)
	if o.profiles == "" || s == nil {
		done <- nil
		return done
	}
	go func() {
		profile, err := s.get(
			ctx,
			fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(o.duration.Seconds()))),
		)
		if err == nil {
			err = os.WriteFile(filepath.Join(o.profiles, name+".pprof"), []byte(profile), 0o600)
		}
		done <- err
	}()
	return done
}

// attack runs the attacker.
func (o *options) attack(ctx context.Context, r row, t target, result *result) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	assignment, err := json.Marshal(
		assignment{r.name, t, result.load.connections, result.load.streams, o.duration},
	)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, o.duration+10*time.Second)
	defer cancel()
	// The attacker has less right to the processors than server and neighbour.
	child := exec.CommandContext(within, "nice", "-n", "10", program, childName, string(assignment))
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var answers, problems bytes.Buffer
	child.Stdout, child.Stderr = &answers, &problems
	if err := child.Run(); err != nil {
		return fmt.Errorf("attacker: %w\n%.2000s", err, problems.String())
	}
	return json.Unmarshal(answers.Bytes(), &result.answers)
}

// begin measures a server before the attack. It is nil if it is no child of ours.
func (r *result) begin(ctx context.Context, s *server) (err error) {
	if s == nil {
		return nil
	}
	if r.before, err = s.held(ctx, true); err != nil {
		return err
	}
	r.storedBefore, r.logged = s.stored(), s.log.size()
	return s.resetPeak()
}

// end measures it after the attack, and waits until it has let go of what it held, as long as it
// may.
func (r *result) end(ctx context.Context, s *server) (err error) {
	if s == nil {
		return nil
	}
	r.logged = s.log.size() - r.logged
	if r.peak, err = s.peak(); err != nil {
		return err
	}
	for began := time.Now(); ; {
		if r.after, err = s.held(ctx, true); err != nil {
			return err
		}
		r.released = time.Since(began)
		if r.hasReleased() || r.released >= releaseTime {
			break
		}
		pause(ctx, time.Second)
	}
	r.storedAfter = s.stored()
	r.resident, err = s.resident()
	return err
}

// summary is a row in a line.
func (r *result) summary() string {
	var text strings.Builder
	if fmt.Fprintf(&text, "%s: ", r.load); !r.remote {
		fmt.Fprintf(&text, "peak %d MiB, ", r.peak>>20)
	}
	fmt.Fprintf(
		&text,
		"neighbour failed %d of %d, p99 %s → %s, liveness failed %d, answers %v",
		r.attacked.failed,
		r.attacked.calls,
		milliseconds(quantile(r.quiet.lookups, .99)),
		milliseconds(quantile(r.attacked.lookups, .99)),
		r.attacked.dead,
		r.answers,
	)
	if r.attacked.failure != "" {
		text.WriteString("; " + strconv.Quote(r.attacked.failure))
	}
	if len(r.missed) > 0 {
		text.WriteString("; MISSED: " + strings.Join(r.missed, ", "))
	}
	return text.String()
}
