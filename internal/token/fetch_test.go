package token_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/quartet/internal/token"
	"example.com/quartet/internal/token/tokentest"
)

// published is an issuer with a URL.
type published struct {
	*tokentest.Issuer
	*httptest.Server
	cfg     token.Config
	fetches atomic.Int64
	mu      sync.Mutex
	answer  http.HandlerFunc
}

func publish(t *testing.T) *published {
	t.Helper()
	p := &published{Issuer: tokentest.New(t)}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		p.mu.Lock()
		answer := p.answer
		p.mu.Unlock()
		answer(w, r)
	}))
	p.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(p.Close)
	p.answers(p.serveKeys(t))
	folder := t.TempDir()
	ca, own := filepath.Join(folder, "ca.crt"), filepath.Join(folder, "token")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	for file, content := range map[string][]byte{ca: certificate, own: []byte("own-token\n")} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.cfg = config(p.Issuer)
	p.cfg.JWKSFile, p.cfg.JWKSURL, p.cfg.JWKSCAFile, p.cfg.JWKSTokenFile = "", p.URL+"/keys", ca, own
	p.cfg.JWKSInterval = 5 * time.Minute
	return p
}

func (p *published) answers(answer http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// serveKeys answers with the newest keys those that have the right token.
func (p *published) serveKeys(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/keys" || r.Header.Get("Authorization") != "Bearer own-token" {
			http.Error(w, "not here", http.StatusForbidden)
			return
		}
		_, _ = w.Write(p.Keys(t)) // The client says if it fails.
	}
}

func TestKeysAreFetched(t *testing.T) {
	p := publish(t)
	v := verifier(t, p.cfg, silent)
	for range 3 {
		if _, err := v.Verify(t.Context(), "caller", p.Token(t, "alice")); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.fetches.Load(); got != 1 {
		t.Errorf("the keys are fetched %d times", got)
	}
}

// TestATokenOfANewKeyHasTheKeysFetchedButNotOften bounds what callers can have the server ask of
// the issuer.
func TestATokenOfANewKeyHasTheKeysFetchedButNotOften(t *testing.T) {
	p := publish(t)
	v := verifier(t, p.cfg, silent)
	old := p.Token(t, "alice")
	p.Rotate(t)
	fresh := p.Token(t, "alice")
	v.Pause(false)
	if _, err := v.Verify(t.Context(), "caller", fresh); !errors.Is(err, token.ErrNotTrusted) ||
		p.fetches.Load() != 1 {
		t.Errorf("within the pause: got %v after %d fetches", err, p.fetches.Load())
	}
	v.Age()
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			if _, err := v.Verify(t.Context(), "caller", fresh); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if _, err := v.Verify(t.Context(), "caller", old); !errors.Is(err, token.ErrNotTrusted) {
		t.Errorf("a token whose key was withdrawn: %v", err)
	}
	if got := p.fetches.Load(); got != 2 {
		t.Errorf("the keys are fetched %d times", got)
	}
	v.Age()
	forged := fresh[:len(fresh)-6] + "AAAAAA"
	if _, err := v.Verify(t.Context(), "caller", forged); !errors.Is(err, token.ErrNotTrusted) ||
		p.fetches.Load() != 2 {
		t.Errorf("a forged token: got %v after %d fetches", err, p.fetches.Load())
	}
}

func TestAnIssuerThatIsDownKeepsNothingFromStarting(t *testing.T) {
	p := publish(t)
	p.answers(
		func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) },
	)
	v := verifier(t, p.cfg, silent)
	if _, err := v.Verify(t.Context(), "caller", p.Token(t, "alice")); !errors.Is(err, token.ErrNoKeys) {
		t.Errorf("without keys: %v", err)
	}
	p.answers(p.serveKeys(t))
	v.Age()
	if _, err := v.Verify(t.Context(), "caller", p.Token(t, "alice")); err != nil {
		t.Error(err)
	}
}

// TestATokenOfANewKeyMayBeTriedAgainWhileTheIssuerIsDown keeps clients from giving up.
func TestATokenOfANewKeyMayBeTriedAgainWhileTheIssuerIsDown(t *testing.T) {
	p := publish(t)
	v := verifier(t, p.cfg, silent)
	known := p.Token(t, "alice")
	p.Rotate(t)
	fresh := p.Token(t, "alice")
	p.answers(
		func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) },
	)
	v.Age()
	for range 3 { // The first one has the keys fetched.
		if _, err := v.Verify(t.Context(), "caller", fresh); !errors.Is(err, token.ErrNoKeys) {
			t.Errorf("a token of a key that could not be fetched: %v", err)
		}
	}
	if _, err := v.Verify(t.Context(), "caller", known); err != nil {
		t.Errorf("a token of a known key: %v", err)
	}
	p.answers(p.serveKeys(t))
	v.Age()
	if _, err := v.Verify(t.Context(), "caller", fresh); err != nil {
		t.Errorf("when the issuer is back: %v", err)
	}
}

// TestAKeySetThatIsNoneChangesNothing has the former keys stay in use.
func TestAKeySetThatIsNoneChangesNothing(t *testing.T) {
	p := publish(t)
	var log bytes.Buffer
	v := verifier(t, p.cfg, slog.New(slog.NewTextHandler(&log, nil)))
	valid := p.Token(t, "alice")
	for want, answer := range map[string]http.HandlerFunc{
		"answers 302 Found": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, p.URL+"/keys", http.StatusFound) },
		"is larger than 262144 bytes": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, strings.Repeat(" ", 300<<10)) // It is cut.
		},
		"is no JSON Web Key Set": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>") },
		"has no public key":      func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"keys": []}`) },
	} {
		p.answers(answer)
		v.Age()
		p.fetchNow(t, v)
		if _, err := v.Verify(t.Context(), "caller", valid); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if !strings.Contains(log.String(), want) || strings.Contains(log.String(), "own-token") {
			t.Errorf("%s: logged %s", want, &log)
		}
	}
}

// fetchNow has a token of an unknown key wait for a fetch.
func (p *published) fetchNow(t *testing.T, v *token.Verifier) {
	t.Helper()
	other := tokentest.New(t)
	other.ID = "unknown"
	_, _ = v.Verify(t.Context(), "caller", other.Token(t, "alice")) // It is refused whatever comes.
}

// TestACallDoesNotWaitForASlowIssuerBeyondItsDeadline bounds how long and how many calls wait.
func TestACallDoesNotWaitForASlowIssuerBeyondItsDeadline(t *testing.T) {
	p := publish(t)
	v := verifier(t, p.cfg, silent)
	release := make(chan struct{})
	defer close(release)
	p.answers(func(http.ResponseWriter, *http.Request) { <-release })
	p.Rotate(t)
	v.Age()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := v.Verify(ctx, "caller", p.Token(t, "alice")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call with a deadline: %v", err)
	}
	results := make(chan error, 200)
	waiting, stop := context.WithCancel(t.Context())
	for i := range cap(results) {
		go func() { _, err := v.Verify(waiting, i%2, p.Token(t, "alice")); results <- err }()
	}
	for range 100 {
		if err := <-results; !errors.Is(err, token.ErrNoKeys) {
			t.Errorf("a call beyond the most that may wait: %v", err)
		}
	}
	stop()
	for range 100 {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("a call that waits: %v", err)
		}
	}
}

func TestAnAddressWithAMistakeIsRefused(t *testing.T) {
	p := publish(t)
	if err := p.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*token.Config){
		"JWKS_URL: has to begin with https://": func(c *token.Config) { c.JWKSURL = "http://issuer.example.com/keys" },
		"JWKS_URL: is no address":              func(c *token.Config) { c.JWKSURL = "issuer.example.com/keys" },
		"JWKS_URL: has a user":                 func(c *token.Config) { c.JWKSURL = "https://me:secret@issuer.example.com/keys" },
		"JWKS_URL: is needed with":             func(c *token.Config) { c.JWKSURL, c.JWKSFile = "", "keys.json" },
		"JWKS_INTERVAL=1s: must be from 10s":   func(c *token.Config) { c.JWKSInterval = time.Second },
	} {
		cfg := p.cfg
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("got %v, expected %q", err, want)
		}
	}
}

// TestACallerThatMakesUpKeysLeavesTheFetchOfNewKeysToOthers has one caller use up its fetches just
// before the issuer has a new key.
func TestACallerThatMakesUpKeysLeavesTheFetchOfNewKeysToOthers(t *testing.T) {
	p := publish(t)
	v := verifier(t, p.cfg, silent)
	madeUp := tokentest.New(t)
	for i := range 10 {
		v.Pause(true)
		madeUp.ID = fmt.Sprint("made up ", i)
		if _, err := v.Verify(t.Context(), "stranger",
			madeUp.Token(t, "alice")); !errors.Is(err, token.ErrNotTrusted) {
			t.Fatal(err)
		}
	}
	if got := p.fetches.Load(); got != 2 {
		t.Errorf("%d fetches, expected that of the start and one for the stranger", got)
	}
	p.Rotate(t)
	v.Pause(true)
	if _, err := v.Verify(t.Context(), "caller", p.Token(t, "alice")); err != nil {
		t.Errorf("a token of a new key: %v", err)
	}
}

// TestKeysAreFetchedByTheClockWhateverCallersSend has them fetched without any token.
func TestKeysAreFetchedByTheClockWhateverCallersSend(t *testing.T) {
	p := publish(t)
	v := verifier(t, p.cfg, silent)
	valid := p.Token(t, "alice")
	v.Pause(true) // They are as old as the interval.
	p.Rotate(t)
	v.Reload()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if _, err := v.Check(valid); errors.Is(err, token.ErrNotTrusted) {
			break // The new keys do not have that of this one.
		}
		select {
		case <-ctx.Done():
			t.Fatal("the keys are not fetched")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestAVerifierIsReadyWhenItHasKeys says since when they are there, too.
func TestAVerifierIsReadyWhenItHasKeys(t *testing.T) {
	p := publish(t)
	p.answers(
		func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) },
	)
	v := verifier(t, p.cfg, silent)
	if sources := v.Sources(); v.Ready() || len(sources) != 1 || sources[0].Kind != "url" ||
		!sources[0].Read.IsZero() || sources[0].Interval != p.cfg.JWKSInterval {
		t.Errorf("without keys: ready is %v, of %+v", v.Ready(), sources)
	}
	p.answers(p.serveKeys(t))
	v.Age()
	p.fetchNow(t, v)
	if read := v.Sources()[0].Read; !v.Ready() || time.Since(read) > time.Minute {
		t.Errorf("with keys: ready is %v, read at %s", v.Ready(), read)
	}
	before := v.Sources()[0].Read
	p.answers(
		func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) },
	)
	v.Age()
	p.fetchNow(t, v)
	if read := v.Sources()[0].Read; !v.Ready() || !read.Equal(before) {
		t.Errorf("with old keys: ready is %v, read at %s, expected %s", v.Ready(), read, before)
	}
}
