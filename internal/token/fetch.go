package token

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"example.com/quartet/internal/reload"
)

const (
	// fetchTimeout is how long a key set may take to arrive.
	fetchTimeout = 5 * time.Second
	// fetchPause is the least time between two fetches, whatever tokens callers send.
	fetchPause = time.Second
	// callerPause is the least time between two fetches for tokens of the same caller. It is longer,
	// so that a caller that makes up keys leaves the others their fetch.
	callerPause = 10 * time.Second
	// retryPause is the time between two fetches of keys that cannot be fetched, while the former ones
	// are in use.
	retryPause = 10 * time.Second
	// maxWaiting is how many calls may wait for a fetch because of a key that is not known yet; one
	// caller may have half of them.
	maxWaiting = 100
)

// fetch gets the key set from the issuer. Each time it has a connection of its own, and reads the
// files for it.
func fetch(ctx context.Context, cfg Config) (keys keySet, leftOut, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.JWKSURL, nil)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	if cfg.JWKSTokenFile != "" {
		own, err := ReadFile(cfg.JWKSTokenFile)
		if err != nil {
			return nil, nil, err
		}
		request.Header.Set("Authorization", "Bearer "+own)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cfg.JWKSProxy {
		transport.Proxy = http.ProxyFromEnvironment
	}
	if cfg.JWKSCAFile != "" {
		if transport.TLSClientConfig.RootCAs, err = reload.Authorities(cfg.JWKSCAFile); err != nil {
			return nil, nil, err
		}
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: answers %s", cfg.JWKSURL, response.Status)
	}
	if keys, leftOut, err = readKeys(response.Body); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", cfg.JWKSURL, err)
	}
	return keys, leftOut, nil
}

// refresh has the key set fetched, unless it was a moment ago, and returns what is closed when it
// is there or could not be fetched; nil if nothing is under way. The caller holds the lock.
func (v *Verifier) refresh() <-chan struct{} {
	if v.fetching != nil || !v.mayFetch() {
		return v.fetching
	}
	done := make(chan struct{})
	v.fetching, v.fetched = done, time.Now()
	go func() {
		keys, leftOut, err := fetch(context.Background(), v.cfg)
		v.mu.Lock()
		defer v.mu.Unlock()
		defer close(done)
		v.fetching = nil
		v.update(&v.fromURL, keys, leftOut, err)
	}()
	return done
}

func (v *Verifier) mayFetch() bool {
	return v.cfg.JWKSURL != "" && time.Since(v.fetched) >= fetchPause
}

// awaitKeys waits for a fetch, if there may be one now for this caller or one is under way.
func (v *Verifier) awaitKeys(ctx context.Context, caller any) error {
	v.mu.Lock()
	done := v.fetching
	if done == nil && v.mayFetch() && v.fetches.Allow(caller) {
		done = v.refresh()
	}
	v.mu.Unlock()
	if done == nil {
		return nil
	}
	giveBack, ok := v.waiting.Try(caller, 1)
	if !ok {
		return ErrNoKeys
	}
	defer giveBack()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
