// Package s3test has an S3 service for tests, with which they need nothing but Go.
package s3test

import (
	"cmp"
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Bucket is the name of the one bucket there is.
const Bucket = "quartet"

// Fake answers what the object package asks of S3, with one bucket and without looking at signatures. What it should
// answer was observed on versitygw.
type Fake struct {
	// Before and After, if not nil, see each request to a key; the answer of one that panics with
	// http.ErrAbortHandler gets lost. They may be changed only while no request is under way.
	Before, After func(w http.ResponseWriter, r *http.Request, key string) (answered bool)

	mu   sync.Mutex
	keys map[string][]byte
}

// New returns a service whose bucket is empty.
func New() *Fake { return &Fake{keys: map[string][]byte{}} }

// Keys returns what the bucket has.
func (f *Fake) Keys() map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.keys)
}

// URL is where a store finds a bucket of the service at an address.
func URL(address, bucket string) string {
	return "s3://" + bucket + "?endpoint=http://" + address + "&region=us-east-1&use_path_style=true"
}

// ServeHTTP implements http.Handler.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, key, _ := strings.Cut(r.URL.Path[1:], "/")
	if bucket != Bucket {
		Fail(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	if f.Before != nil && f.Before(w, r, key) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // Half a request.
	}
	answer := f.do(r, key, body)
	if f.After != nil {
		f.After(w, r, key)
	}
	answer(w)
}

// Fail answers a request as S3 does when it refuses one.
func Fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>as it is</Message></Error>", code)
}

func (f *Fake) do(r *http.Request, key string, body []byte) (answer func(w http.ResponseWriter)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, found := f.keys[key]
	status, code := f.condition(r, data, found)
	switch {
	case code != "":
		return func(w http.ResponseWriter) { Fail(w, status, code) }
	case key == "":
		return f.list(r)
	case r.Method == http.MethodPut:
		f.keys[key] = body
		return func(w http.ResponseWriter) { w.Header().Set("ETag", etag(body)) }
	case r.Method == http.MethodDelete:
		delete(f.keys, key)
		return func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }
	}
	return get(r, data)
}

// condition returns why the request cannot be carried out, if so.
func (f *Fake) condition(r *http.Request, data []byte, found bool) (status int, code string) {
	match := r.Header.Get("If-Match")
	switch {
	case match != "" && found && match != etag(data), r.Header.Get("If-None-Match") != "" && found:
		return http.StatusPreconditionFailed, "PreconditionFailed"
	case match != "" && !found && r.Method == http.MethodPut, r.Method == http.MethodGet && r.URL.Path != "/"+Bucket && !found:
		return http.StatusNotFound, "NoSuchKey"
	}
	if first, _, ranged := rangeOf(r); ranged && first >= len(data) {
		return http.StatusRequestedRangeNotSatisfiable, "InvalidRange"
	}
	return 0, ""
}

func etag(data []byte) string { return fmt.Sprintf(`"%x"`, md5.Sum(data)) }

func rangeOf(r *http.Request) (first, last int, ranged bool) {
	_, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
	return first, last, err == nil
}

func get(r *http.Request, data []byte) func(http.ResponseWriter) {
	tag := etag(data)
	if first, last, ranged := rangeOf(r); ranged {
		data = data[first:min(last+1, len(data))]
	}
	return func(w http.ResponseWriter) {
		w.Header().Set("ETag", tag)
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data)
	}
}

func (f *Fake) list(r *http.Request) func(http.ResponseWriter) {
	type entry struct {
		Key  string
		Size int
	}
	var page struct {
		XMLName     xml.Name `xml:"ListBucketResult"`
		IsTruncated bool
		Contents    []entry
	}
	q := r.URL.Query()
	limit, _ := strconv.Atoi(cmp.Or(q.Get("max-keys"), "1000"))
	for _, key := range slices.Sorted(maps.Keys(f.keys)) {
		if !strings.HasPrefix(key, q.Get("prefix")) || key <= q.Get("start-after") {
			continue
		}
		if page.IsTruncated = len(page.Contents) == min(limit, 1000); page.IsTruncated {
			break
		}
		page.Contents = append(page.Contents, entry{key, len(f.keys[key])})
	}
	return func(w http.ResponseWriter) { _ = xml.NewEncoder(w).Encode(page) }
}
