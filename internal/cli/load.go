package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/internal/traffic"
)

// load is the name of the command that measures.
const load = "load"

// loadOptions are the flags of load.
type loadOptions struct {
	// duration is how long operations are started; the last ones may take longer.
	duration time.Duration
	// concurrency is how many workers each operation has.
	concurrency int
	// rate is in operations of each kind per second, by all workers together; 0 for no limit.
	rate float64
	// size is what each operation stores, as config.Bytes is written; "" for what the environment
	// says.
	size string
	// modes are those of the operations to make, json whether the report is for programs.
	modes []string
	json  bool

	bytes int64 // size, parsed
}

// modes are those of gRPC as metrics spell them.
var modes = []string{"unary", "server_stream", "client_stream", "bidi_stream"}

// loadCommand makes the command "load".
func (c *command) loadCommand() *cobra.Command {
	// cobra parses the flags into it before RunE is called.
	var o loadOptions
	cmd := &cobra.Command{
		Use:   load,
		Short: "Measure the servers under load, and verify every answer",
		Long: `Makes the operations of "serve", each by several workers at once, for a time, and shows how many went well and
how long they took, retries and resumes included. The exit code is 5 if an answer was wrong, which is content that
was lost, doubled, reordered or damaged, and 1 if an operation failed or was late. What was stored is removed at the
end, also after a signal.`,
		Example: fmt.Sprintf("  %s load\n  %[1]s load --mode unary --concurrency 64 --duration 1m\n"+
			"  %[1]s load --mode client_stream,server_stream --size 64MiB --rate 2 --json", c.typed),
		Args: Positional(0, 0),
		RunE: c.do(func(ctx context.Context, _ []string) error {
			if err := o.validate(); err != nil {
				return usageError{err}
			}
			return c.call(
				ctx,
				c.Services,
				func(connected []Connection) error { return c.load(ctx, o, connected) },
			)
		}),
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.duration, "duration", 10*time.Second, "how long operations are started")
	flags.IntVar(
		&o.concurrency,
		"concurrency",
		4,
		"`number` of workers of each operation, each of which makes one at a time",
	)
	flags.Float64Var(
		&o.rate,
		"rate",
		0,
		"`number` of operations of each kind started per second, 0 for as many as can be",
	)
	flags.StringVar(
		&o.size,
		"size",
		"",
		"`size` of what is stored, 64MiB for example (default by the environment)",
	)
	flags.StringSliceVar(&o.modes, "mode", modes, "modes of gRPC to use")
	flags.BoolVar(&o.json, "json", false, "write each operation as one line of JSON")
	return cmd
}

// maxConcurrency bounds the workers of load, each of which is set up for itself.
const maxConcurrency = 10_000

// validate checks the flags, all of them at once, and parses the size.
func (o *loadOptions) validate() error {
	var problems []error
	if o.duration <= 0 {
		problems = append(problems, fmt.Errorf("--duration=%v: has to be more than zero", o.duration))
	}
	if o.concurrency < 1 || o.concurrency > maxConcurrency {
		problems = append(
			problems,
			fmt.Errorf("--concurrency=%d: is not between 1 and %d", o.concurrency, maxConcurrency),
		)
	}
	// NaN < 0 is false, so that NaN has to be asked for.
	if o.rate < 0 || math.IsNaN(o.rate) {
		problems = append(problems, fmt.Errorf("--rate=%v: is negative", o.rate))
	}
	if o.size != "" {
		var size config.Bytes
		// Half of the largest size leaves room for sums.
		if err := size.UnmarshalText([]byte(o.size)); err != nil || size < 1 || size > math.MaxInt64/2 {
			problems = append(
				problems,
				errors.Join(fmt.Errorf("--size=%q: is no size of at least 1 byte", o.size), err),
			)
		}
		o.bytes = int64(size)
	}
	for _, mode := range o.modes {
		if !slices.Contains(modes, mode) {
			problems = append(
				problems,
				fmt.Errorf("--mode=%s: is none of %s", mode, strings.Join(modes, ", ")),
			)
		}
	}
	return errors.Join(problems...)
}

// load runs workers that make operations until the time is over, and shows the results.
func (c *command) load(ctx context.Context, o loadOptions, connected []Connection) error {
	// What other runs store has other names.
	instances := fmt.Sprintf("load-%s-", strings.ToLower(rand.Text()[:8]))
	var hints []string
	var left atomic.Bool // what was stored, by any of cleanUps
	// measured is in the order of the services and of their operations, as the report shows them.
	var measured []*measurement
	var setUps, cleanUps []func(context.Context) error
	// A worker starts operations until started is done, and whole is the life of the operations.
	var workers []func(started, whole context.Context)
	for i, service := range c.Services {
		if service.Traffic == nil {
			continue
		}
		// its is in the order of source.Operations, the same for all workers of a service.
		var its []*measurement // by operation
		// Each worker is a client of its own, with its own name in what it stores, so that workers never
		// wait for each other on the client's side.
		for n := range o.concurrency {
			// A copy: each worker changes what it is called and where it stores.
			conn := connected[i]
			conn.Instance = fmt.Sprint(instances, n)
			conn.Bytes = o.bytes
			conn.Telemetry = telemetry.Discard() // Its metrics are for one client, and here are many.
			// It is the source of one worker, which serve makes once for all.
			source := service.Traffic(conn)
			if err := service.validateTraffic(source); err != nil {
				return usageError{err}
			}
			if n == 0 {
				its = newMeasurements(o, source)
				// its has nil where an operation is not made; the report has no line for those.
				measured = append(
					measured,
					slices.DeleteFunc(slices.Clone(its), func(m *measurement) bool { return m == nil })...)
			}
			wrong := func(err error) bool { return err != nil && (source.Wrong(err) || c.isDamage(err)) }
			for at, operation := range source.Operations {
				// All workers of an operation count in one measurement.
				if m := its[at]; m != nil {
					workers = append(workers, func(started, whole context.Context) {
						m.repeat(started, whole, c.config.Timeout, operation, wrong)
					})
				}
			}
			if source.SetUp != nil {
				// Each worker prepares what its own operations use.
				setUps = append(setUps, source.SetUp)
			}
			if source.CleanUp != nil {
				cleanUps = append(cleanUps, func(ctx context.Context) error {
					if source.CleanUp(ctx) != nil {
						left.Store(true)
					}
					return nil // all would leave out the others.
				})
			}
		}
		if service.LeftBehind != nil {
			hints = append(hints, service.LeftBehind(&Terminal{c, service}, instances))
		}
	}
	// interruptible may return before all is removed, and then run shows the hint.
	hint := strings.Join(hints, "\n")
	c.hint.Store(&hint)
	// What was set up is removed also after a signal, within the time of one operation.
	defer func() {
		_ = c.all(context.WithoutCancel(ctx), cleanUps) // They have no errors.
		// It is shown once, here or by run.
		if unsaid := c.hint.Swap(nil); unsaid != nil && left.Load() && hint != "" {
			fmt.Fprintln(c.stderr, hint)
		}
	}()
	// Nothing is measured before all is set up.
	if err := c.all(ctx, setUps); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	began := time.Now()
	// No operation begins after o.duration; one that is under way may end.
	started, stop := context.WithTimeout(ctx, o.duration)
	defer stop()
	var running sync.WaitGroup
	for _, worker := range workers {
		running.Go(func() { worker(started, ctx) })
	}
	go c.showLoad(started, o, began, measured)
	running.Wait()
	if err := c.report(o, measured, time.Since(began)); err != nil {
		return err
	}
	// The report is written also after an interruption, and the exit code says that there was one.
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return verdict(measured)
}

// showLoad shows progress on a terminal, twice a second, until no operation is started any more.
func (c *command) showLoad(
	ctx context.Context,
	o loadOptions,
	began time.Time,
	measured []*measurement,
) {
	for c.stderr.width != nil && !c.quiet && rpc.Sleep(ctx, time.Second/2) == nil {
		var good, bad int
		for _, m := range measured {
			m.mu.Lock()
			good, bad = good+m.good, bad+m.failed+m.wrong
			m.mu.Unlock()
		}
		c.stderr.show(
			fmt.Sprintf(
				"%s of %s: %d operations went well, %d did not",
				time.Since(began).Round(time.Second),
				o.duration,
				good,
				bad,
			),
		)
	}
}

// setUpConcurrency is how many set-ups and clean-ups are made at once.
const setUpConcurrency = 16

// all does everything in do, at most for the time that an operation may take, and returns the first
// error.
func (c *command) all(ctx context.Context, do []func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var doing sync.WaitGroup
	places := make(chan struct{}, setUpConcurrency)
	for _, one := range do {
		// It blocks here, so that there are no more goroutines than places.
		places <- struct{}{}
		doing.Go(func() {
			defer func() { <-places }()
			limited, end := context.WithTimeout(ctx, c.config.Timeout)
			defer end()
			if err := one(limited); err != nil {
				// The first error cancels the others, and is the cause that is returned.
				cancel(err)
			}
		})
	}
	doing.Wait()
	// It is nil if nothing has failed and ctx is not done. The deferred cancel comes later.
	return context.Cause(ctx)
}

// verdict is the error of a run: with the first wrong answer of each operation, or else the first
// failure.
func verdict(measured []*measurement) error {
	var good, failed, wrong int
	var first, firstWrong error
	for _, m := range measured {
		good, failed, wrong = good+m.good, failed+m.failed, wrong+m.wrong
		first, firstWrong = errors.Join(first, m.firstFailed), errors.Join(firstWrong, m.firstWrong)
	}
	switch {
	// Wrong answers come first: exit code 5 says that content is not safe.
	case wrong > 0:
		return fmt.Errorf("%w: %d of %d: %w", errWrongAnswers, wrong, good+failed+wrong, firstWrong)
	case failed > 0:
		return loadError{fmt.Sprintf("%d of %d operations failed: %v", failed, good+failed, first)}
	case good == 0:
		// A load without operations proves nothing, as where no service uses the chosen mode.
		return loadError{"no operation was made"}
	default:
		return nil
	}
}

// loadError is the failure of a run. It has no status: it is not that of one call.
type loadError struct{ text string }

// Error implements error.
func (e loadError) Error() string { return e.text }

// measurement has the counts and times of one kind of operation.
type measurement struct {
	service, method, mode string
	// limit is shared by all workers, since --rate is for all of them together.
	limit *rate.Limiter

	// mu guards the counts, which all workers of the operation change. verdict and report read them
	// when the workers have ended.
	mu                      sync.Mutex
	good, failed, wrong     int
	firstFailed, firstWrong error
	// times counts good operations by bucket, see bucketsPerE; slowest is exact.
	times   [maxBucket + 1]int
	slowest time.Duration
}

// newMeasurements are those of a source's operations, nil for one that is not made.
func newMeasurements(o loadOptions, source traffic.Source) []*measurement {
	all := make([]*measurement, len(source.Operations))
	for i, operation := range source.Operations {
		method := source.Service.Methods().ByName(protoreflect.Name(operation.Method))
		mode := modeLabel(method)
		// A rate of 0 in the configuration switches an operation off, here as in serve.
		if operation.Rate == 0 || !slices.Contains(o.modes, mode) {
			continue
		}
		limit := rate.Inf
		if o.rate > 0 {
			limit = rate.Limit(o.rate)
		}
		all[i] = &measurement{
			service: string(source.Service.FullName()),
			method:  operation.Method,
			mode:    mode,
			// With a burst of 1 operations are spread evenly, and no worker catches up on missed ones.
			limit: rate.NewLimiter(limit, 1),
		}
	}
	return all
}

// modeLabel is a mode as metrics spell it.
func modeLabel(method protoreflect.MethodDescriptor) string {
	labels := telemetry.MethodLabelValues(method)
	return labels[slices.Index(telemetry.MethodLabels(), "grpc_type")]
}

// repeat makes operations until started is done, and lets the last one end. What whole cuts is not
// counted.
func (m *measurement) repeat(
	started, whole context.Context,
	timeout time.Duration,
	operation traffic.Operation,
	wrong func(error) bool,
) {
	// Wait returns at the end of started, and also if the end would come before the next operation is
	// due.
	for m.limit.Wait(started) == nil && started.Err() == nil {
		// A late operation counts as failed, as in serve.
		ctx, cancel := context.WithTimeout(whole, timeout)
		began := time.Now()
		err := operation.Do(ctx)
		cancel()
		// Our own end cut it: the server has not failed.
		if err != nil && whole.Err() != nil {
			return
		}
		m.count(time.Since(began), err, wrong(err))
		if err != nil {
			_ = rpc.Sleep(
				started,
				100*time.Millisecond,
			) // Servers that fail at once are not called in a tight loop.
		}
	}
	// Only the end itself has what it came from: the duration, --timeout or a signal.
	<-started.Done()
}

// Times are counted in buckets that are 1 % wide, the last of which is at about a minute and a
// half.
const (
	// bucketsPerE is the number of buckets in which a time grows by the factor e, so that each is
	// e^(1/100), about 1 % wider than the last. Bucket 2520 begins at e^25.2 ns, which is 88 s.
	bucketsPerE = 100
	maxBucket   = 2520
)

// count counts an operation. Only good ones count for the times: failures that come at once would
// make a broken server look fast.
func (m *measurement) count(took time.Duration, err error, wrong bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case wrong:
		m.wrong++
		if m.firstWrong == nil {
			// The wrong answer itself is wrapped, so that its kind decides the exit code.
			m.firstWrong = fmt.Errorf("%s: %w", m.method, err)
		}
		return
	case err != nil:
		m.failed++
		if m.firstFailed == nil {
			// Only the text of a failure is kept: the exit code of a load is 1 whatever its status.
			m.firstFailed = fmt.Errorf("%s: %s", m.method, message(err))
		}
		return
	}
	m.good++
	m.slowest = max(m.slowest, took)
	// At least 1 ns, since the logarithm of 0 is no index.
	m.times[min(int(math.Log(float64(max(took, 1)))*bucketsPerE), maxBucket)]++
}

// quantile is the time that a part of the operations took at most.
func (m *measurement) quantile(part float64) time.Duration {
	// The rank is that of the operation which is slower than part of all, counted from 1.
	rank := int(math.Ceil(part * float64(m.good)))
	for bucket, n := range m.times {
		if rank -= n; rank <= 0 && n > 0 {
			// A bucket says the time only to 1 %; its upper end may be more than any operation took.
			return min(time.Duration(math.Exp(float64(bucket+1)/bucketsPerE)), m.slowest)
		}
	}
	return m.slowest
}

// loadResult is a measurement for programs.
type loadResult struct {
	// Service is the full name in the contract, and Mode what metrics call the mode.
	Service string `json:"service"`
	Method  string `json:"method"`
	Mode    string `json:"mode"`
	// Failed operations ended with an error or late, and Wrong ones with an answer that must not be.
	Good   int `json:"good"`
	Failed int `json:"failed"`
	Wrong  int `json:"wrong"`
	// PerSecond counts good operations only.
	PerSecond float64 `json:"per_second"`
	// Times are in seconds. Those of half, 90 % and 99 % of the good operations are exact to 1 %.
	P50 float64 `json:"p50_seconds"`
	P90 float64 `json:"p90_seconds"`
	P99 float64 `json:"p99_seconds"`
	Max float64 `json:"max_seconds"`
}

// report writes what was measured in so much time.
func (c *command) report(o loadOptions, measured []*measurement, took time.Duration) error {
	table := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	if !o.json {
		fmt.Fprintln(table, "GOOD\tFAILED\tWRONG\tPER SECOND\tP50\tP90\tP99\tMAX\t  OPERATION")
	}
	for _, m := range measured {
		perSecond := float64(m.good) / took.Seconds()
		p50, p90, p99 := m.quantile(.5), m.quantile(.9), m.quantile(.99)
		if !o.json {
			fmt.Fprintf(
				table,
				"%d\t%d\t%d\t%.1f\t%v\t%v\t%v\t%v\t  %s (%s)\n",
				m.good,
				m.failed,
				m.wrong,
				perSecond,
				short(p50),
				short(p90),
				short(p99),
				short(m.slowest),
				m.method,
				m.mode,
			)
			continue
		}
		// Each line is complete in itself, so that a script can read them one by one.
		err := WriteJSON(
			c.stdout,
			loadResult{m.service, m.method, m.mode, m.good, m.failed, m.wrong, perSecond,
				p50.Seconds(), p90.Seconds(), p99.Seconds(), m.slowest.Seconds()},
		)
		if err != nil {
			return err
		}
	}
	return table.Flush()
}

// short leaves three digits of a time, which is what the buckets are exact to.
func short(d time.Duration) time.Duration {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
