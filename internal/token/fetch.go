package token

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"

	"example.com/quartet/internal/reload"
)

const (
	// fetchTimeout is how long a key set may take to arrive.
	fetchTimeout = 5 * time.Second
	// fetchPause is the least time between two fetches, whatever tokens callers send.
	fetchPause = 10 * time.Second
	// mostWaiting is how many calls may wait for a fetch because of a key that is not known yet.
	mostWaiting = 100
)

// fetch gets the key set from the issuer. Each time it has a connection of its own, and reads the
// files for it.
func fetch(ctx context.Context, cfg Config) (keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.JWKSURL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	if cfg.JWKSTokenFile != "" {
		own, err := ReadFile(cfg.JWKSTokenFile)
		if err != nil {
			return nil, err
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
			return nil, err
		}
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: answers %s", cfg.JWKSURL, response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, keySetBytes+1))
	if err == nil && len(content) > keySetBytes {
		err = fmt.Errorf("is larger than %d bytes", keySetBytes)
	}
	var keys keySet
	if err == nil {
		keys, err = parseKeys(content)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.JWKSURL, err)
	}
	return keys, nil
}

// refresh has the key set fetched, unless it was a moment ago, and returns what is closed when it
// is there or could not be fetched; nil if nothing is under way. The caller holds the lock.
func (v *Verifier) refresh() <-chan struct{} {
	if v.fetching != nil || v.cfg.JWKSURL == "" || time.Since(v.fetched) < fetchPause {
		return v.fetching
	}
	done := make(chan struct{})
	v.fetching, v.fetched = done, time.Now()
	go func() {
		keys, err := fetch(context.Background(), v.cfg)
		v.mu.Lock()
		defer v.mu.Unlock()
		defer close(done)
		v.fetching = nil
		v.update(&v.fromURL, keys, err)
	}()
	return done
}

// awaitKeys waits for a fetch, if there may be one now or one is under way.
func (v *Verifier) awaitKeys(ctx context.Context) error {
	v.mu.Lock()
	done := v.refresh()
	v.mu.Unlock()
	if done == nil {
		return nil
	}
	defer v.waiting.Add(-1)
	if v.waiting.Add(1) > mostWaiting {
		return ErrNoKeys
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
