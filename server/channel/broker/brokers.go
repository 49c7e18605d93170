package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// prefixFolder begins the name of a folder with the embedded server of a prefix.
const prefixFolder = "prefix-"

// Prefix has the limits of the channels whose names begin with Name.
type Prefix struct {
	Name string
	// Retention and MaxBytes are as in Options.
	Retention time.Duration
	MaxBytes  int64
}

// Brokers are those of one process: one for the channels of each prefix, and one for all others.
// Each has a stream of its own, from which no message of another is discarded. What they hold in
// memory has the bounds of a single Broker.
type Brokers struct {
	// all are in the order of the length of their prefixes. The first one is for all other channels.
	all []*Broker
}

// OpenAll opens a Broker for each of the prefixes and one with the limits of opts for all other
// channels. Embedded servers of prefixes have folders below opts.Dir.
func OpenAll(
	ctx context.Context, url string, opts Options, prefixes []Prefix,
) (*Brokers, error) {
	opts = opts.withDefaults()
	all := slices.Concat([]Prefix{{"", opts.Retention, opts.MaxBytes}}, prefixes)
	slices.SortFunc(all, func(a, b Prefix) int { return cmp.Compare(len(a.Name), len(b.Name)) })
	if need := int64(len(all)) * blocksPart * blockBytes; url == embeddedURL && len(prefixes) > 0 &&
		debug.SetMemoryLimit(-1) < need {
		return nil, fmt.Errorf("%d prefixes need a memory limit (GOMEMLIMIT) of %d MiB for embedded channels",
			len(prefixes), need>>20)
	}
	opts.memory = newMemory(url == embeddedURL, opts, len(all))
	bs := &Brokers{}
	for _, p := range all {
		b, err := Open(ctx, url, opts.of(p))
		if err != nil {
			return nil, errors.Join(about(p.Name, err), bs.Close(context.WithoutCancel(ctx)))
		}
		bs.all = append(bs.all, b)
	}
	if url != embeddedURL {
		return bs, nil
	}
	bs.tellUnused()
	// The folders of prefixes have to survive a crash of the machine like what is in them.
	if err := flush(opts.Dir); opts.SyncAlways && err != nil {
		return nil, errors.Join(err, bs.Close(context.WithoutCancel(ctx)))
	}
	return bs, nil
}

// of returns the options of the Broker for a prefix. Its metrics have a label, which is empty for
// all other channels: to Prometheus that is none.
func (o Options) of(p Prefix) Options {
	o.Prefix, o.Retention, o.MaxBytes = p.Name, p.Retention, p.MaxBytes
	if o.Registerer != nil {
		o.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"prefix": p.Name}, o.Registerer)
	}
	if p.Name != "" {
		o.Dir = filepath.Join(o.Dir, prefixFolder+escape(p.Name))
		o.Log = o.Log.With("prefix", p.Name)
	}
	return o
}

// tellUnused warns of folders of prefixes that are configured no longer: nothing discards what is
// in them.
func (bs *Brokers) tellUnused() {
	main := bs.all[0]
	// The pattern is always valid but for a folder with brackets in its name, which has no warning.
	folders, _ := filepath.Glob(filepath.Join(main.opts.Dir, prefixFolder+"*"))
	for _, folder := range folders {
		if !slices.ContainsFunc(bs.all, func(b *Broker) bool { return b.opts.Dir == folder }) {
			main.log.Warn("a folder has messages of a prefix that is not configured, and nothing discards them",
				"folder", folder)
		}
	}
}

// Of returns the Broker of a channel: that of the longest prefix that its name begins with.
func (bs *Brokers) Of(channel string) *Broker {
	for _, b := range slices.Backward(bs.all[1:]) {
		if strings.HasPrefix(channel, b.opts.Prefix) {
			return b
		}
	}
	return bs.all[0]
}

// Pace returns the pace of all messages of this process, for which Publish waits by itself.
func (bs *Brokers) Pace() *Pace { return bs.all[0].pace }

// Check returns nil if each Broker answers and can store messages.
func (bs *Brokers) Check(ctx context.Context) error {
	return bs.each(func(b *Broker) error { return b.Check(ctx) })
}

// Close closes all Brokers at once.
func (bs *Brokers) Close(ctx context.Context) error {
	return bs.each(func(b *Broker) error { return b.Close(ctx) })
}

// each calls do of all Brokers at once and joins their errors.
func (bs *Brokers) each(do func(*Broker) error) error {
	var tasks sync.WaitGroup
	errs := make([]error, len(bs.all))
	for i, b := range bs.all {
		tasks.Go(func() { errs[i] = about(b.opts.Prefix, do(b)) })
	}
	tasks.Wait()
	return errors.Join(errs...)
}

// about says in an error which prefix it is about.
func about(prefix string, err error) error {
	if err == nil || prefix == "" {
		return err
	}
	return fmt.Errorf("channels %q: %w", prefix+"…", err)
}
