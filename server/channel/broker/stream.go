package broker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// maxHeaders is room for the headers of a message, so that a body of MaxBody always fits.
	maxHeaders = 8 << 10

	// openRetry is the pause between two attempts: to find the stream, to verify it, to start the
	// embedded server anew.
	openRetry = 250 * time.Millisecond
	// maxReasons bounds what is logged of one wait, each reason once.
	maxReasons = 16
)

// numbers are left out when two reasons are compared.
var numbers = regexp.MustCompile("[0-9]+")

// streamConfig is the stream as this process creates it if there is none.
func (b *Broker) streamConfig() jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:         b.names.stream,
		Description:  "Channels: one subject each.",
		Storage:      jetstream.FileStorage,
		Retention:    jetstream.LimitsPolicy,
		MaxConsumers: -1,
		MaxMsgs:      -1,
	}
	setLimits(&cfg, b.opts)
	b.setPromises(&cfg)
	return cfg
}

// setLimits sets what belongs to the operator: how much is kept, how long, and on how many servers.
func setLimits(cfg *jetstream.StreamConfig, opts Options) {
	cfg.MaxAge = opts.Retention
	cfg.MaxBytes = opts.MaxBytes
	cfg.Duplicates = min(opts.DedupWindow, opts.Retention) // JetStream refuses a longer window
	cfg.Replicas = opts.Replicas
}

// setPromises sets what the package depends on. Messages are discarded from the front of the stream
// and nowhere else: this is how a subscriber can tell that nothing before a message it has seen in
// time is missing. The stream announces every message with its predecessor, and any replica may be
// read.
func (b *Broker) setPromises(cfg *jetstream.StreamConfig) {
	cfg.Subjects = []string{b.names.subject + "*"}
	cfg.RePublish = &jetstream.RePublish{Source: b.names.subject + ">",
		Destination: b.names.live + ">"}
	cfg.AllowDirect = true
	cfg.Discard = jetstream.DiscardOld
	cfg.MaxMsgsPerSubject = -1
	cfg.MaxMsgSize = MaxBody + maxHeaders
	cfg.AllowRollup = false
	cfg.DenyDelete = true
	cfg.DenyPurge = true
}

// ensureStream finds the stream or creates it. It tries until ctx is done or the broker refuses for
// good, so that a server may start before its broker. Each reason to wait is logged once.
func (b *Broker) ensureStream(ctx context.Context) (jetstream.Stream, error) {
	var why error // of the last attempt that had all of its time
	for told := map[string]bool{}; ; {
		stream, err := b.tryStream(ctx)
		if err == nil {
			return stream, b.checkVersion()
		}
		if refused(err) {
			return nil, fmt.Errorf("stream %s: %w", b.names.stream, err)
		}
		err = b.reason(err)
		if why == nil || ctx.Err() == nil {
			why = err
		}
		kind := numbers.ReplaceAllString(err.Error(), "") // It may have the port of the attempt.
		if ctx.Err() == nil && !told[kind] && len(told) < maxReasons && !errors.Is(err, errConnecting) {
			b.log.Warn("waiting for the message broker", "error", err)
			told[kind] = true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w: %w", ErrUnavailable, ctx.Err(), why)
		case <-time.After(openRetry):
		}
	}
}

// tryStream finds the stream or creates it, in one attempt. Several replicas may do so at once: the
// same stream can be created and updated any number of times.
func (b *Broker) tryStream(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := b.js.Stream(ctx, b.names.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = b.js.CreateStream(ctx, b.streamConfig())
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			// A replica with other options was faster.
			stream, err = b.js.Stream(ctx, b.names.stream)
		}
	}
	if err != nil {
		return nil, err
	}
	return b.adopt(ctx, stream)
}

// adopt sets what the package depends on in an existing stream. The limits follow the options only
// where the stream is this process's alone, in the embedded server. In a cluster they belong to the
// operator: were every start of a replica to set them, it would undo what the operator did about a
// full disk, and a lower one would discard messages on the spot.
func (b *Broker) adopt(ctx context.Context, stream jetstream.Stream) (jetstream.Stream, error) {
	have := stream.CachedInfo().Config
	want, wished := have, have
	b.setPromises(&want)
	setLimits(&wished, b.opts)
	if b.embedded != nil {
		setLimits(&want, b.opts)
	} else if !reflect.DeepEqual(have, wished) {
		b.log.Warn("the stream has other limits than configured, and keeps them",
			"stream", b.names.stream, "retention", have.MaxAge, "max_bytes", have.MaxBytes,
			"dedup_window", have.Duplicates, "replicas", have.Replicas)
	}
	if reflect.DeepEqual(have, want) {
		return stream, nil
	}
	return b.js.UpdateStream(ctx, want)
}

// refused says that the broker has understood and declined, so that trying again would not help:
// the configuration is wrong. That there is no stream is not meant, as it is created.
func refused(err error) bool {
	const replicasOutsideCluster = 10074 // which JetStream calls an internal error
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode == jetstream.JSErrCodeStreamNotFound {
		return false
	}
	return api.Code >= 400 && api.Code < 500 || api.ErrorCode == replicasOutsideCluster
}

// checkVersion refuses servers before 2.11, which cannot read several messages at once: they would
// answer such a request with one.
func (b *Broker) checkVersion() error {
	var major, minor int
	version := b.nc.ConnectedServerVersion()
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return nil // disconnected this very moment
	}
	if major < 2 || major == 2 && minor < 11 {
		return fmt.Errorf("message broker must be NATS 2.11 or newer, not %s", version)
	}
	return nil
}
