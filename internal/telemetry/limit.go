package telemetry

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
)

// Callers can cause the same error any number of times a second, and must not fill a disk with log
// lines. So each kind of line has a limit: lineBurst at once, then one for each interval, and the
// next one that is written has the number that was left out before it. Lines of calls are of a kind
// if method and code are the same, all others if level and text are.
//
// If every code of 20 methods is flooded, those are 340 kinds and, of 400 bytes a line, 0.8 MB a
// minute: 340 × 6 × 400. What lines have in them, how many methods there are, and what is logged at
// debug, could make it more, hence the budget: at most logBurst + 60 × logRate, which is 982,144
// bytes, in any minute.
const (
	lineBurst     = 10
	lineInterval  = 10 * time.Second
	debugInterval = time.Second // An operator that asks for debug lines has to see single calls.
	rareInterval  = time.Minute // of what may fail every few seconds, for hours

	logBurst = 256 << 10
	logRate  = 12_000 // bytes a second
)

// lineLimit lets some lines pass at once, and after them one for each interval.
type lineLimit struct {
	*rate.Limiter
	// suppressed counts the lines that were left out since one passed.
	suppressed atomic.Int64
}

// newLineLimit lets burst lines pass at once, and then one each interval.
func newLineLimit(burst int, interval time.Duration) *lineLimit {
	return &lineLimit{Limiter: rate.NewLimiter(rate.Every(interval), burst)}
}

// newKindLimit is the limit of a kind of line.
func newKindLimit(level slog.Level) *lineLimit {
	if level < slog.LevelInfo {
		return newLineLimit(lineBurst, debugInterval)
	}
	return newLineLimit(lineBurst, lineInterval)
}

// pass tells whether a line may be written, and how many were not since the last one, whether they
// were over the limit or found no room in the budget. A line over its limit takes nothing of the
// budget.
func (l *lineLimit) pass(within *budget, level slog.Level) (suppressed int64, ok bool) {
	if !l.Allow() || !within.hasRoom(level) {
		l.suppressed.Add(1)
		return 0, false
	}
	return l.suppressed.Swap(0), true
}

// callLimits are those of the lines of a method's calls, by code.
type callLimits [codes.Unauthenticated + 1]*lineLimit

// newCallLimits makes the limits of one method: a level of its own for each code, see severity.
func newCallLimits(isServer bool) *callLimits {
	limits := &callLimits{}
	for code := range limits {
		limits[code] = newKindLimit(severity(codes.Code(code), isServer))
	}
	return limits
}

// limited is the handler that keeps a log within its limits.
type limited struct {
	slog.Handler
	kinds  *lineKinds // nil if lines have passed before they came here
	budget *budget
}

// Handle implements slog.Handler.
func (h limited) Handle(ctx context.Context, line slog.Record) error {
	if h.kinds != nil {
		suppressed, ok := h.kinds.limit(line).pass(h.budget, line.Level)
		if !ok {
			return nil
		}
		if suppressed > 0 {
			line.AddAttrs(slog.Int64("suppressed", suppressed))
		}
	}
	if count := h.budget.refused.Swap(0); count > 0 {
		// Lines of all kinds were refused; this is the first that was written since.
		line.AddAttrs(slog.Int64("over_budget", count))
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.Handler = h.Handler.WithAttrs(attrs)
	return h
}

// WithGroup implements slog.Handler.
func (h limited) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}

// passedLog is a log for lines whose kinds have limits of their own, other than by what they say. A
// line is written to it only if pass lets it.
type passedLog struct {
	*slog.Logger
	budget *budget // nil if the log has none
}

// withinBudget is the same log for lines that have limits of their own.
func withinBudget(log *slog.Logger) passedLog {
	if h, ok := log.Handler().(limited); ok {
		h.kinds = nil
		return passedLog{slog.New(h), h.budget}
	}
	return passedLog{log, nil}
}

// pass is that of a kind of line, in the budget of this log. It counts no line of a level that is
// not logged.
func (l passedLog) pass(kind *lineLimit, level slog.Level) (suppressed int64, ok bool) {
	if !l.Enabled(context.Background(), level) {
		return 0, false
	}
	return kind.pass(l.budget, level)
}

// lineKinds are the limits of lines by what they say. The texts of lines are constants of the
// program; should a library put something else into them, what does not fit into the table shares a
// limit.
type lineKinds struct {
	// mu guards known.
	mu    sync.Mutex
	known map[lineKind]*lineLimit
	// rest is the limit of all kinds that came when the table was full.
	rest *lineLimit
}

// lineKind is what lines have to have in common to share a limit.
type lineKind struct {
	level slog.Level
	text  string
}

const (
	maxKinds    = 256
	maxKindText = 128 // bytes of a text that tell it from others
)

// newLineKinds knows no kind yet; each gets its limit with its first line.
func newLineKinds() *lineKinds {
	return &lineKinds{known: map[lineKind]*lineLimit{}, rest: newKindLimit(slog.LevelInfo)}
}

// limit finds the limit of a line, and makes it for a new kind, as long as there is room.
func (k *lineKinds) limit(line slog.Record) *lineLimit {
	kind := lineKind{line.Level, line.Message[:min(len(line.Message), maxKindText)]}
	k.mu.Lock()
	defer k.mu.Unlock()
	if limit, ok := k.known[kind]; ok {
		return limit
	}
	if len(k.known) == maxKinds {
		return k.rest
	}
	// A part of a text keeps all of it in memory; the copy has only what is compared.
	kind.text = strings.Clone(kind.text)
	limit := newKindLimit(line.Level)
	k.known[kind] = limit
	return limit
}

// budget is how many bytes a log may have in all, counted where they are written. A line is written
// whole or not at all.
type budget struct {
	io.Writer
	bytes   *rate.Limiter
	refused atomic.Int64 // lines, since one was written
}

// newBudget bounds what is written to a writer.
func newBudget(to io.Writer) *budget {
	return &budget{Writer: to, bytes: rate.NewLimiter(logRate, logBurst)}
}

// hasRoom tells whether a line may be written. Half of the room is for warnings and errors. A log
// without a budget has room for all.
func (b *budget) hasRoom(level slog.Level) bool {
	if b == nil {
		return true
	}
	least := 0.0
	if level < slog.LevelWarn {
		least = logBurst / 2
	}
	if b.bytes.Tokens() > least {
		return true
	}
	b.refused.Add(1)
	return false
}

// Write takes a line, which may use room of the future: how long it is was not known before.
func (b *budget) Write(line []byte) (int, error) {
	// ReserveN refuses more than the burst, and so would take nothing for a longer line.
	b.bytes.ReserveN(time.Now(), min(len(line), logBurst))
	return b.Writer.Write(line)
}
