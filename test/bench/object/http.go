package object

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// protocols is HTTP/1.1 or h2c alone.
func protocols(h2c bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(!h2c)
	p.SetUnencryptedHTTP2(h2c)
	return p
}

// httpHandler answers GET with content, and takes what is PUT.
type httpHandler struct{ *store }

func (h httpHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.answer(w, r); err != nil {
		panic(http.ErrAbortHandler) // The client sees that the answer ended early.
	}
}

func (h httpHandler) answer(w http.ResponseWriter, r *http.Request) error {
	job, err := parseJob(r.URL.Query().Get("job"))
	if err != nil {
		return err
	}
	if job.Upload {
		sum, err := h.take(job, r.Body)
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(sum)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(job.Bytes, 10))
	return h.give(job, w)
}

// httpClient is net/http's, with a transport of its own.
type httpClient struct {
	alike
	address   string
	transport *http.Transport
}

func newHTTPClient(address string, h2c bool) *httpClient {
	return &httpClient{
		address: address, transport: &http.Transport{Protocols: protocols(h2c), DisableCompression: true},
	}
}

func (c *httpClient) close() { c.transport.CloseIdleConnections() }

func (c *httpClient) do(ctx context.Context, method string, job Job) (*http.Response, error) {
	address := fmt.Sprintf("http://%s/?job=%s", c.address, url.QueryEscape(job.String()))
	request, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, err
	}
	if job.Upload {
		request.Body, request.ContentLength = body{newContent(job.Bytes)}, job.Bytes
	}
	return c.transport.RoundTrip(request)
}

// body is content as net/http wants it.
type body struct{ *content }

func (body) Close() error { return nil }

func (c *httpClient) download(ctx context.Context, job Job) (Sum, error) {
	response, err := c.do(ctx, http.MethodGet, job)
	if err != nil {
		return Sum{}, err
	}
	defer response.Body.Close()
	got := &sink{check: job.Check}
	err = copyAll(got, response.Body, make([]byte, bufferBytes))
	return got.Sum, err
}

func (c *httpClient) upload(ctx context.Context, job Job) (sum Sum, err error) {
	response, err := c.do(ctx, http.MethodPut, job)
	if err != nil {
		return Sum{}, err
	}
	defer response.Body.Close()
	err = json.NewDecoder(response.Body).Decode(&sum)
	return sum, err
}
