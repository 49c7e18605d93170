package console

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"example.com/quartet/internal/reload"
	"example.com/quartet/internal/token"
)

// rolloutTimeout bounds a request to the API of Kubernetes.
const rolloutTimeout = 10 * time.Second

// rollout replaces the pods of a Deployment, so that a person can watch calls survive it. The pod's
// ServiceAccount needs the verb patch on the Deployment, with which its token can change all of it,
// the image too: it is for development.
type rollout struct {
	// url of the Deployment in the API of Kubernetes; without one there is nothing to replace.
	url string
	// credentials is a folder with ca.crt and token, as Kubernetes mounts them. Both are read for
	// each request, because the kubelet renews the token.
	credentials string

	mu   sync.Mutex
	last time.Time // when Kubernetes has taken the last one, zero before the first
}

// rolloutPause is the least time between two rollouts: each one begins all over again.
const rolloutPause = 30 * time.Second

var errRolloutRunning = fmt.Errorf("another one began less than %s ago", rolloutPause)

// begin changes the annotation that `kubectl rollout restart` changes, and returns when Kubernetes
// has taken it: the pods are replaced after that.
func (r *rollout) begin(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.last) < rolloutPause {
		return errRolloutRunning
	}
	ctx, cancel := context.WithTimeout(ctx, rolloutTimeout)
	defer cancel()
	roots, err := reload.Authorities(filepath.Join(r.credentials, "ca.crt"))
	if err != nil {
		return err
	}
	bearer, err := token.ReadFile(filepath.Join(r.credentials, "token"))
	if err != nil {
		return err
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, // Rollouts are rare.
	}
	patch := fmt.Sprintf(
		`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`,
		time.Now().UTC().Format(time.RFC3339))
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, r.url, strings.NewReader(patch))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/strategic-merge-patch+json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Authorization", "Bearer "+bearer)
	// RoundTrip, and not a Client, because the token must not follow a redirection.
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		r.last = time.Now()
		return nil
	}
	var refusal struct {
		Message string `json:"message"`
	}
	_ = json.NewDecoder(io.LimitReader(response.Body, 4<<10)).Decode(&refusal) // The status is enough.
	return fmt.Errorf("kubernetes answers %s: %s", response.Status, refusal.Message)
}

func (c *Console) serveRollout(w http.ResponseWriter, r *http.Request, granted rights) {
	if granted != everything {
		http.Error(w, "this token may not replace servers", http.StatusForbidden)
		return
	}
	err := c.rollout.begin(r.Context())
	if errors.Is(err, errRolloutRunning) {
		http.Error(w, "The servers are not replaced: "+err.Error(), http.StatusTooManyRequests)
		return
	}
	if err != nil {
		c.Telemetry.Log.Warn("servers not replaced", "caller", r.RemoteAddr, "error", err)
		http.Error(w, "The servers are not replaced: "+err.Error(), http.StatusBadGateway)
		return
	}
	c.Telemetry.Log.Info("servers are replaced on request of the console", "caller", r.RemoteAddr)
	w.WriteHeader(http.StatusNoContent)
}
