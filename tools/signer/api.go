package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"
)

// api is the part of Kubernetes' API that the signer uses, which is too little for client-go.
type api struct {
	// server is the address of the API server, with its scheme.
	server string
	token  string // file, whose content changes
	client *http.Client
}

// accountFolder is where every pod finds the credentials of its service account.
const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount/"

// inCluster is the API as pods have it. host and port are what Kubernetes tells them.
func inCluster(host, port string) (*api, error) {
	if host == "" {
		return nil, errors.New("KUBERNETES_SERVICE_HOST is not set: the signer runs in a pod")
	}
	// The API server has a certificate of the cluster's own authority.
	authorities, err := os.ReadFile(accountFolder + "ca.crt")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authorities)
	// No proxy is used: the API server is inside of the cluster.
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}
	return &api{
		server: "https://" + net.JoinHostPort(host, port), token: accountFolder + "token",
		// Without a timeout a connection that hangs would stop the signer for good.
		client: &http.Client{Transport: transport, Timeout: 10 * time.Second},
	}, nil
}

// metadata is what all resources have, as far as the signer needs it.
type metadata struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	// ResourceVersion changes with each write, see setStatus.
	ResourceVersion string            `json:"resourceVersion"`
	Labels          map[string]string `json:"labels,omitempty"`
}

// request is a PodCertificateRequest of certificates.k8s.io/v1.
type request struct {
	Metadata metadata `json:"metadata"`
	// Spec is checked by the API server, which lets a kubelet ask only for pods on its own node, by
	// the names that they have.
	Spec struct {
		PodName              string `json:"podName"`
		PodUID               string `json:"podUID"`
		ServiceAccountName   string `json:"serviceAccountName"`
		MaxExpirationSeconds int64  `json:"maxExpirationSeconds"`
		// StubPKCS10Request is a certificate request in DER. Only its public key counts; the kubelet has
		// signed it to prove that it has the private key.
		StubPKCS10Request []byte `json:"stubPKCS10Request"`
		// UnverifiedUserAnnotations are the pod author's wishes, which the API server does not check.
		UnverifiedUserAnnotations map[string]string `json:"unverifiedUserAnnotations"`
	} `json:"spec"`
	Status status `json:"status"`
}

// status is the answer to a request. The API server takes the times only if they are those in the
// certificate.
type status struct {
	Conditions []condition `json:"conditions,omitempty"`
	// CertificateChain is in PEM, the certificate of the pod first.
	CertificateChain string    `json:"certificateChain,omitempty"`
	NotBefore        time.Time `json:"notBefore,omitzero"`
	BeginRefreshAt   time.Time `json:"beginRefreshAt,omitzero"`
	NotAfter         time.Time `json:"notAfter,omitzero"`
}

// condition is how a request was answered: Issued, Denied or Failed.
type condition struct {
	Type    string    `json:"type"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"lastTransitionTime"`
}

// answered reports whether a signer has answered already. An answer is final.
func (r *request) answered() bool { return len(r.Status.Conditions) > 0 }

// requestsPath is the API group of the requests, which is stable since Kubernetes 1.37.
const requestsPath = "/apis/certificates.k8s.io/v1/"

// requests lists those for a signer, of all namespaces.
func (a *api) requests(ctx context.Context, signer string) ([]*request, error) {
	var list struct{ Items []*request }
	// The API server selects by this field, so that requests for other signers do not come.
	query := url.Values{"fieldSelector": {"spec.signerName=" + signer}}.Encode()
	err := a.do(ctx, http.MethodGet, requestsPath+"podcertificaterequests?"+query, "", nil, &list)
	return list.Items, err
}

// servicesOf are the names of the Services in the pod's namespace that select it.
func (a *api) servicesOf(ctx context.Context, r *request) ([]string, error) {
	// Names are escaped, although Kubernetes has none that need it.
	core := "/api/v1/namespaces/" + url.PathEscape(r.Metadata.Namespace)
	var pod struct{ Metadata metadata }
	if err := a.do(ctx, http.MethodGet, core+"/pods/"+url.PathEscape(r.Spec.PodName), "", nil,
		&pod); err != nil {
		return nil, err
	}
	// Names of pods of a StatefulSet come again: the certificate must not go by the labels of a later
	// pod.
	if pod.Metadata.UID != r.Spec.PodUID {
		return nil, fmt.Errorf("the pod %s is another one by now", r.Spec.PodName)
	}
	var services struct {
		Items []struct {
			Metadata metadata
			Spec     struct{ Selector map[string]string }
		}
	}
	if err := a.do(ctx, http.MethodGet, core+"/services", "", nil, &services); err != nil {
		return nil, err
	}
	var names []string
	for _, service := range services.Items {
		// The labels are those of the API server, and not what the pod says of itself.
		if selects(service.Spec.Selector, pod.Metadata.Labels) {
			names = append(names, service.Metadata.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// selects tells whether labels have all that a selector wants. An empty one selects nothing.
func selects(selector, labels map[string]string) bool {
	for key, want := range selector {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	return len(selector) > 0
}

// deny answers a request with a refusal, which is final: the pod gets no certificate by it.
func (a *api) deny(ctx context.Context, r *request, reason, message string) error {
	return a.setStatus(ctx, r, &status{Conditions: []condition{
		{
			Type:    "Denied",
			Status:  "True",
			Reason:  reason,
			Message: message,
			// The API has times in whole seconds.
			Since: time.Now().UTC().Truncate(time.Second),
		},
	}})
}

// setStatus changes nothing if the request has changed meanwhile, such as by another signer.
func (a *api) setStatus(ctx context.Context, r *request, s *status) error {
	path := requestsPath + "namespaces/" + url.PathEscape(
		r.Metadata.Namespace,
	) + "/podcertificaterequests/" +
		url.PathEscape(
			r.Metadata.Name,
		) + "/status"
	// A merge patch with a resourceVersion is refused with 409 if the resource has another one by now.
	change := map[string]any{
		"metadata": map[string]string{"resourceVersion": r.Metadata.ResourceVersion},
		"status":   s,
	}
	return a.do(ctx, http.MethodPatch, path, "application/merge-patch+json", change, nil)
}

// largest is the size of the largest answer that is read, in bytes.
const largest = 64 << 20

// do makes a request to the API server. body is sent as JSON unless it is nil, and the answer is
// read into into unless that is nil.
func (a *api) do(ctx context.Context, method, path, contentType string, body, into any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, a.server+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	// The kubelet replaces the token before it expires, so that it is read each time.
	token, err := os.ReadFile(a.token)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, largest))
	if err != nil {
		return err
	}
	// The text of an error says why; 500 bytes of it are enough for a line in the log.
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.500s", method, req.URL.Path, resp.Status, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}
