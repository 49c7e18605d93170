package object

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/semaphore"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/shares"
	"example.com/quartet/server/object/engine"
)

// limits bound what one caller can take of what all share: transfers and lists at once, and uploads
// that are not finished. Only uploads that began in this process are counted, by upload_id. Those
// of other processes, and of one that ended, are not; they leave with their time to live. One that
// was finished or removed in another process is counted until then.
type limits struct {
	config Config
	// lists gives each caller one place, and making is for all lists that are being made.
	lists  *shares.Shares
	making *semaphore.Weighted
	// transfers gives each caller CallerTransfers places.
	transfers *shares.Shares

	// mu guards the maps.
	mu sync.Mutex
	// owners has the caller of each unfinished upload, and uploads the same by caller, with the time
	// at which a stream of this process was last known to have it.
	owners  map[string]rpc.Caller
	uploads map[rpc.Caller]map[string]time.Time
}

// newLimits also registers the gauge of unfinished uploads.
func newLimits(c Config, registry prometheus.Registerer) *limits {
	l := &limits{
		config: c, lists: shares.New(0, 1, listsWaiting), making: semaphore.NewWeighted(int64(c.Lists)),
		transfers: shares.New(0, int64(c.CallerTransfers), 0),
		owners:    map[string]rpc.Caller{}, uploads: map[rpc.Caller]map[string]time.Time{},
	}
	promauto.With(registry).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "uploads_unfinished",
		Help: "Uploads that began in this process and are not known to be finished or removed.",
	}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return float64(len(l.owners))
	})
	return l
}

const (
	// listsWaiting is how many lists of one caller may wait for the one that is being made.
	listsWaiting = 4
	// namePause is what follows a list before its caller's next one, for each name in it: making and
	// encoding 1,000 takes some milliseconds of a processor, which lookups of others want too.
	namePause = 20 * time.Microsecond
)

// list waits for the caller's turn to have a list made, and then for one of the places of all. The
// caller of it calls release with the number of names in the list, which delays the next list by as
// much. Too many that wait are refused with when to come back.
func (l *limits) list(ctx context.Context) (release func(names int), err error) {
	giveBack, err := l.lists.Take(ctx, rpc.CallerOf(ctx), 1)
	if errors.Is(err, shares.ErrTooManyWait) {
		return nil, rpc.Overloaded("too many lists of one caller at once")
	}
	if err != nil {
		return nil, context.Cause(ctx)
	}
	if err := l.making.Acquire(ctx, 1); err != nil {
		giveBack()
		return nil, context.Cause(ctx)
	}
	return func(names int) {
		l.making.Release(1)
		// The caller's own place comes free later than that of all.
		time.AfterFunc(time.Duration(names)*namePause, giveBack)
	}, nil
}

// transfer takes one of the caller's places for uploads and downloads, which leave gives back. A
// caller that has none left is refused with when to come back; it does not wait, as a transfer may
// take hours.
func (l *limits) transfer(ctx context.Context) (leave func(), err error) {
	leave, ok := l.transfers.Try(rpc.CallerOf(ctx), 1)
	if !ok {
		return nil, rpc.Overloaded("too many transfers of one caller at once")
	}
	return leave, nil
}

// errTooManyUploads means that a caller has to finish uploads, or to cancel some, before it begins
// others.
var errTooManyUploads = errors.New("too many unfinished uploads")

// begun counts an upload as unfinished; one that is counted already is not counted again. Where
// there are too many, it looks at some of them, which may have been finished or removed in another
// process, and then fails with errTooManyUploads if that has made no room.
func (l *limits) begun(ctx context.Context, id string, e engine.Engine) error {
	caller := rpc.CallerOf(ctx)
	if l.take(id, caller) {
		return nil
	}
	// One request for each, so that a caller that is at its limit does not make many.
	for _, other := range l.sample(caller) {
		if state, err := e.Upload(ctx, other); state.Object != nil ||
			errors.Is(err, engine.ErrUploadNotFound) {
			l.ended(other)
		}
	}
	if l.take(id, caller) {
		return nil
	}
	return errTooManyUploads
}

// take counts an upload unless that would be one too many.
func (l *limits) take(id string, caller rpc.Caller) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if owner, known := l.owners[id]; known {
		l.uploads[owner][id] = time.Now()
		return true
	}
	if len(l.owners) >= l.config.MaxUploads || len(l.uploads[caller]) >= l.config.CallerUploads {
		return false
	}
	if l.uploads[caller] == nil {
		l.uploads[caller] = map[string]time.Time{}
	}
	l.owners[id], l.uploads[caller][id] = caller, time.Now()
	return true
}

// sample returns up to four unfinished uploads, of the caller if it has too many itself, or else of
// any. Go's order of maps is random, so that all are looked at in time, for a few requests each
// time.
func (l *limits) sample(caller rpc.Caller) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	candidates := maps.Keys(l.owners)
	if len(l.uploads[caller]) >= l.config.CallerUploads {
		candidates = maps.Keys(l.uploads[caller])
	}
	for id := range candidates {
		if ids = append(ids, id); len(ids) == 4 {
			break
		}
	}
	return ids
}

// expire forgets uploads that no stream of this process has had since before: they were finished
// or removed, in this process or another one, or go on in another one, which counts them.
func (l *limits) expire(before time.Time, busy func(id string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, caller := range l.owners {
		if busy(id) {
			l.uploads[caller][id] = time.Now()
		} else if l.uploads[caller][id].Before(before) {
			l.forget(id)
		}
	}
}

// ended counts an upload as finished, or gone. It may not have been counted.
func (l *limits) ended(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(id)
}

// forget is ended with mu held.
func (l *limits) forget(id string) {
	caller := l.owners[id]
	delete(l.owners, id)
	if delete(l.uploads[caller], id); len(l.uploads[caller]) == 0 {
		delete(l.uploads, caller)
	}
}
