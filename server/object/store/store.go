package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/memblob" // mem:// for tests, a few kilobytes
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

const (
	defaultPartSize      = 8 << 20
	defaultMaxObjectSize = 64 << 30
	// parallelism bounds the requests to the bucket that one call has under way.
	parallelism = 16
	// cleanupTimeout bounds what is done for tidiness after a call has succeeded.
	cleanupTimeout = time.Minute
	// checkTimeout is more than the repetitions of a request to a store that is down.
	checkTimeout = 10 * time.Second
	checkKey     = uploadsFolder + "check" // shorter than any upload id
)

// Options are what a Store can be told; the zero value stands for the defaults.
type Options struct {
	// PartSize is the most bytes in a part, 8 MiB by default. Three parts of an upload may be under way at once, which
	// is what it loses at most when the process dies.
	PartSize int64
	// SpareParts is how many parts all uploads together may have in memory besides one each, with an engine that holds
	// parts until they are stored. It makes some of them faster.
	SpareParts int
	// MaxObjectSize is the most bytes in an object, 64 GiB by default.
	MaxObjectSize int64
	// Quota is the most bytes that all parts may have, of objects and of uploads under way; 0 is no limit. On a shared
	// bucket it holds as well as Count is called.
	Quota int64
	// Proxy has an S3 service reached through the proxy that HTTPS_PROXY or HTTP_PROXY names, unless NO_PROXY excepts it.
	Proxy bool
	// Log hears of what no caller can be told, such as a part that could not be removed.
	Log *slog.Logger
	// Registerer takes the metrics of the package, and is used once. Default: they are registered nowhere.
	Registerer prometheus.Registerer
}

func (o Options) withDefaults() Options {
	if o.PartSize <= 0 {
		o.PartSize = defaultPartSize
	}
	if o.MaxObjectSize <= 0 {
		o.MaxObjectSize = defaultMaxObjectSize
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Store keeps objects in a bucket. Any number of goroutines may use it and, unless the bucket is a folder, any number
// of stores in any number of processes may share the bucket.
type Store struct {
	bucket  bucket
	opts    Options
	log     *slog.Logger
	metrics *metrics
	quota   *quota
	names   keyed // held while the manifest of a name changes
	turns   turns
	spares  *semaphore.Weighted // nil if the engine does not hold parts
	last    atomic.Int64        // the last generation given out
}

// Open opens the bucket at a URL: file:///folder, which one Store at a time may have open and which is created if it
// does not exist, s3://bucket?endpoint=http://host:port&region=us-east-1&use_path_style=true as gocloud knows it, which
// must exist and for which the usual AWS variables and files have the credentials, or mem:// for tests. A bucket that
// cannot be used is an error within seconds, and an ErrUnavailable if it cannot be reached.
func Open(ctx context.Context, rawURL string, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	b, err := openBucket(ctx, rawURL, opts)
	if err != nil {
		return nil, during("open object store "+address(rawURL), err)
	}
	s := newStore(b, opts)
	if _, owned := b.(*fileBucket); owned {
		if err := s.count(ctx); err != nil {
			return nil, errors.Join(during("count what is stored", err), s.Close())
		}
	}
	return s, nil
}

func newStore(b bucket, opts Options) *Store {
	opts = opts.withDefaults()
	m := newMetrics(opts.Registerer)
	m.quotaBytes.Set(float64(opts.Quota))
	s := &Store{
		bucket: b, opts: opts, log: opts.Log, metrics: m, quota: &quota{limit: opts.Quota, gauge: m.storedBytes},
	}
	if s.WriterBytes() > 0 {
		s.spares = semaphore.NewWeighted(int64(opts.SpareParts))
	}
	return s
}

// address names a folder or a bucket without its parameters, where an operator may have put a secret, except for the endpoint.
// What is no address of either is not shown: its parts may be those of a secret.
func address(rawURL string) string {
	u, err := parseURL(rawURL)
	switch {
	case err == nil && u.Scheme == "file":
		return "file://" + u.Path
	case err == nil && u.Scheme == "s3":
		at := "s3://" + u.Host
		if endpoint, err := url.Parse(u.Query().Get("endpoint")); err == nil && endpoint.Host != "" {
			at += " at " + endpoint.Scheme + "://" + endpoint.Host
		}
		return at
	default:
		return "at its URL"
	}
}

func openBucket(ctx context.Context, rawURL string, opts Options) (bucket, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	switch u.Scheme {
	case "file":
		return openFile(u.Path)
	case "s3":
		return openS3(ctx, u, opts)
	}
	blobs, err := blob.OpenBucket(ctx, rawURL)
	if err != nil {
		return nil, err
	}
	return &blobBucket{blobs: blobs}, nil
}

// CheckURL returns an error unless the URL is one that Open knows. It has no secret in it.
func CheckURL(rawURL string) error {
	_, err := parseURL(rawURL)
	return err
}

func parseURL(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil: // What it says has the URL, or a part of it.
		return nil, errors.New("cannot be read, expected s3://bucket?region=…")
	case u.Scheme == "s3":
		_, err = parseS3(u)
	case u.Scheme == "file":
		if (u.Host != "" && u.Host != "localhost") || u.Path == "" || u.RawQuery != "" {
			err = errors.New("want file:///folder, with an absolute path and no parameters")
		}
	case !blob.DefaultURLMux().ValidBucketScheme(u.Scheme):
		err = errors.New("has no scheme that is known, expected s3://bucket?region=…")
	}
	return u, err
}

// Close releases the bucket. Readers and writers must be closed before.
func (s *Store) Close() error { return during("close object store", s.bucket.close()) }

// WriterBytes is how much memory a Writer may take besides that of spare parts: that of a part, if the engine holds it
// until it is stored.
func (s *Store) WriterBytes() int64 {
	if _, holds := s.bucket.(*s3Bucket); holds {
		return s.opts.PartSize
	}
	return 0
}

// Check tells whether the store can be reached, written and read, for readiness. A full store passes: it still serves
// downloads, and deletions, which are what cures it.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errSlow)
	defer cancel()
	want := []byte("ok")
	err := during("check the store by writing", s.bucket.put(ctx, checkKey, want))
	if errors.Is(err, ErrStoreFull) {
		return nil
	}
	if err != nil {
		return err
	}
	got, err := s.bucket.get(ctx, checkKey)
	if err == nil && !bytes.Equal(got, want) {
		err = s.corrupt("%q where %q was written", got, want)
	}
	return during("check the store by reading", err)
}

// Ping tells whether the store answers, by the cheapest request there is, which may be made all the time: it reads what
// Check has written. Where a full store kept Check from writing it, it is Check that answers.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.bucket.get(ctx, checkKey)
	if errors.Is(err, errNoKey) {
		return s.Check(ctx)
	}
	return during("ask the store", err)
}

// Get returns the object that has the name, or ErrNotFound.
func (s *Store) Get(ctx context.Context, name string) (Object, error) {
	if err := checkName(name); err != nil {
		return Object{}, err
	}
	m, err := s.readManifest(ctx, name)
	if err != nil {
		return Object{}, err
	}
	return m.Object, nil
}

// parallel calls f for each of 0 to n-1, at most limit at a time, and returns the first error.
func parallel(ctx context.Context, limit, n int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(limit)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}
