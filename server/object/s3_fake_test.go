package object

import (
	"cmp"
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeS3 answers what this package asks of S3, with one bucket and without looking at signatures, so that the tests need
// nothing but Go. What it should answer was observed on versitygw, which takes its place where it is installed.
type fakeS3 struct {
	*httptest.Server
	mu   sync.Mutex
	keys map[string][]byte

	// before and after, if not nil, see each request to a key; the answer of one that panics with
	// http.ErrAbortHandler gets lost. They may be changed only while no request is under way.
	before, after func(w http.ResponseWriter, r *http.Request, key string) (answered bool)
}

func newFakeS3(t testing.TB) *fakeS3 {
	t.Helper()
	f := &fakeS3{keys: map[string][]byte{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeS3) url() string { return s3URL(f.Listener.Addr().String(), "quartet") }

func s3URL(address, bucket string) string {
	return "s3://" + bucket + "?endpoint=http://" + address + "&region=us-east-1&use_path_style=true"
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, key, _ := strings.Cut(r.URL.Path[1:], "/")
	if bucket != "quartet" {
		fail(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	if f.before != nil && f.before(w, r, key) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // Half a request.
	}
	out := f.do(r, key, body)
	if f.after != nil {
		f.after(w, r, key)
	}
	out(w)
}

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>as it is</Message></Error>", code)
}

func (f *fakeS3) do(r *http.Request, key string, body []byte) (answer func(w http.ResponseWriter)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, found := f.keys[key]
	status, code := f.condition(r, data, found)
	switch {
	case code != "":
		return func(w http.ResponseWriter) { fail(w, status, code) }
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
func (f *fakeS3) condition(r *http.Request, data []byte, found bool) (status int, code string) {
	match := r.Header.Get("If-Match")
	switch {
	case match != "" && found && match != etag(data), r.Header.Get("If-None-Match") != "" && found:
		return http.StatusPreconditionFailed, "PreconditionFailed"
	case match != "" && !found && r.Method == http.MethodPut, r.Method == http.MethodGet && r.URL.Path != "/quartet" && !found:
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

func (f *fakeS3) list(r *http.Request) func(http.ResponseWriter) {
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
