// Package s3test has an S3 service for tests, with which they need nothing but Go.
package s3test

import (
	"cmp"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/quartet/internal/crc32c"
)

// Bucket is the name of the one bucket there is.
const Bucket = "quartet"

// Fake answers what the engine asks of S3, with one bucket and without looking at signatures. What
// it should answer was observed on versitygw.
type Fake struct {
	// mu guards all that follows. Hooks are called without it, and may call the Fake.
	mu      sync.Mutex
	before  Hook
	after   Hook
	keys    map[string]stored
	uploads map[string]*upload
	// requests counts those since Requests was called, next the multipart uploads.
	requests int
	next     int
}

// stored is the content of a key, or a part.
type stored struct {
	data     []byte
	tag      string
	modified time.Time
}

// upload is a multipart upload under way.
type upload struct {
	key       string
	initiated time.Time
	parts     map[int]stored
}

// Hook sees a request to a key, and says whether it has answered it. The answer of one that panics
// with http.ErrAbortHandler is lost.
type Hook func(w http.ResponseWriter, r *http.Request, key string) (answered bool)

// New returns a service whose bucket is empty.
func New() *Fake { return &Fake{keys: map[string]stored{}, uploads: map[string]*upload{}} }

// Before has the hook called before each further request is carried out, or no hook if it is nil.
func (f *Fake) Before(h Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = h
}

// After has the hook called after each further request was carried out and before it is answered,
// or no hook if it is nil. What the hook says is ignored.
func (f *Fake) After(h Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = h
}

// Keys returns what the bucket has.
func (f *Fake) Keys() map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := map[string][]byte{}
	for key, s := range f.keys {
		keys[key] = s.data
	}
	return keys
}

// Uploads returns the keys of all multipart uploads under way.
func (f *Fake) Uploads() (keys []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, u := range f.uploads {
		keys = append(keys, u.key)
	}
	return keys
}

// Change changes what is stored under a key, without its ETag, as a failing disk does.
func (f *Fake) Change(key string, change func(data []byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.keys[key]
	s.data = change(slices.Clone(s.data))
	f.keys[key] = s
}

// Requests returns how many requests there were since the last time.
func (f *Fake) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.requests = 0 }()
	return f.requests
}

// URL is where an engine finds a bucket of the service at an address.
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
	f.mu.Lock()
	before, after := f.before, f.after
	f.mu.Unlock()
	if before != nil && before(w, r, key) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // Half a request.
	}
	answer := f.do(r, key, body)
	if after != nil {
		after(w, r, key)
	}
	answer(w)
}

// Fail answers a request as S3 does when it refuses one.
func Fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>as it is</Message></Error>", code)
}

// answer writes the answer of a request, after Fake.mu was released.
type answer = func(http.ResponseWriter)

// fail is the answer of a request that is refused.
func fail(status int, code string) answer {
	return func(w http.ResponseWriter) { Fail(w, status, code) }
}

// encode is an answer of XML.
func encode(v any) answer { return func(w http.ResponseWriter) { _ = xml.NewEncoder(w).Encode(v) } }

// do carries out one request, which has arrived as a whole, and returns its answer.
func (f *Fake) do(r *http.Request, key string, body []byte) answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	q := r.URL.Query()
	if sum := r.Header.Get("X-Amz-Checksum-Crc32c"); r.Method == http.MethodPut && sum != "" &&
		sum != encodeSum(crc32c.Checksum(body)) {
		return fail(http.StatusBadRequest, "BadDigest")
	}
	switch {
	case key == "" && q.Has("uploads"):
		return f.listUploads(q.Get("prefix"))
	case key == "":
		return f.list(q.Get("prefix"), q.Get("start-after"), q.Get("max-keys"))
	case q.Has("uploads"):
		f.next++
		id := fmt.Sprintf("s3-upload-%d", f.next)
		f.uploads[id] = &upload{key: key, initiated: time.Now(), parts: map[int]stored{}}
		return encode(struct {
			XMLName xml.Name `xml:"InitiateMultipartUploadResult"`
			ID      string   `xml:"UploadId"`
		}{ID: id})
	case q.Has("uploadId"):
		return f.doUpload(r, key, q.Get("uploadId"), q.Get("partNumber"), body)
	}
	s, found := f.keys[key]
	if refused := condition(r, s, found); refused != nil {
		return refused
	}
	switch r.Method {
	case http.MethodPut:
		s = stored{body, etag(body), time.Now()}
		f.keys[key] = s
		return func(w http.ResponseWriter) { w.Header().Set("ETag", s.tag) }
	case http.MethodDelete:
		delete(f.keys, key)
		return func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }
	}
	return get(r, s)
}

// condition returns why the request cannot be carried out, if so.
func condition(r *http.Request, s stored, found bool) answer {
	match := r.Header.Get("If-Match")
	switch {
	case match != "" && found && match != s.tag, r.Header.Get("If-None-Match") != "" && found:
		return fail(http.StatusPreconditionFailed, "PreconditionFailed")
	case !found && (match != "" && r.Method != http.MethodDelete || r.Method == http.MethodGet):
		return fail(http.StatusNotFound, "NoSuchKey")
	}
	return nil
}

// etag is the ETag of a key or a part: its MD5.
func etag(data []byte) string { return fmt.Sprintf(`"%x"`, md5.Sum(data)) }

// encodeSum is a CRC-32C as S3 has it in headers: big-endian, in base64.
func encodeSum(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// get answers with the content or a range of it: from an offset, or the last bytes.
func get(r *http.Request, s stored) answer {
	data, status, first := s.data, http.StatusOK, 0
	if text, ranged := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ranged {
		from, to, _ := strings.Cut(text, "-")
		last, _ := strconv.Atoi(to)
		if from == "" {
			first, last = max(0, len(data)-last), len(data)-1
		} else {
			first, _ = strconv.Atoi(from)
		}
		if first >= len(data) {
			return fail(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
		}
		data, status = data[first:min(last+1, len(data))], http.StatusPartialContent
	}
	return func(w http.ResponseWriter) {
		w.Header().Set("ETag", s.tag)
		w.Header().Set("Last-Modified", s.modified.UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		if status == http.StatusPartialContent {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+len(data)-1,
				len(s.data)))
		}
		w.WriteHeader(status)
		_, _ = w.Write(data)
	}
}

// doUpload is what can be done with a multipart upload.
func (f *Fake) doUpload(r *http.Request, key, id, number string, body []byte) answer {
	u := f.uploads[id]
	if u == nil || u.key != key {
		return fail(http.StatusNotFound, "NoSuchUpload")
	}
	switch r.Method {
	case http.MethodPut:
		n, _ := strconv.Atoi(number)
		s := stored{body, etag(body), time.Now()}
		u.parts[n] = s
		return func(w http.ResponseWriter) {
			w.Header().Set("ETag", s.tag)
			w.Header().Set("X-Amz-Checksum-Crc32c", encodeSum(crc32c.Checksum(body)))
		}
	case http.MethodDelete:
		delete(f.uploads, id)
		return func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }
	case http.MethodGet:
		return u.list()
	}
	return f.complete(r, id, u, body)
}

// list answers ListParts, in one page.
func (u *upload) list() answer {
	type part struct {
		PartNumber     int
		ETag           string
		Size           int
		LastModified   string
		ChecksumCRC32C string
	}
	var page struct {
		XMLName xml.Name `xml:"ListPartsResult"`
		Part    []part
	}
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		s := u.parts[n]
		page.Part = append(page.Part, part{n, s.tag, len(s.data), timestamp(s.modified),
			encodeSum(crc32c.Checksum(s.data))})
	}
	return encode(page)
}

// timestamp is a time as XML has it.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// complete makes a key of the parts that the request lists, if they are those that have arrived.
func (f *Fake) complete(r *http.Request, id string, u *upload, body []byte) answer {
	var want struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if xml.Unmarshal(body, &want) != nil {
		return fail(http.StatusBadRequest, "MalformedXML")
	}
	var data, sums []byte
	for _, p := range want.Part {
		s, found := u.parts[p.PartNumber]
		if !found || s.tag != p.ETag {
			return fail(http.StatusBadRequest, "InvalidPart")
		}
		sum := md5.Sum(s.data)
		data, sums = append(data, s.data...), append(sums, sum[:]...)
	}
	if sum := r.Header.Get("X-Amz-Checksum-Crc32c"); sum != "" &&
		sum != encodeSum(crc32c.Checksum(data)) {
		return fail(http.StatusBadRequest, "BadDigest")
	}
	delete(f.uploads, id)
	s := stored{data, fmt.Sprintf(`"%x-%d"`, md5.Sum(sums), len(want.Part)), time.Now()}
	f.keys[u.key] = s
	return encode(struct {
		XMLName        xml.Name `xml:"CompleteMultipartUploadResult"`
		ETag           string
		ChecksumCRC32C string
	}{ETag: s.tag, ChecksumCRC32C: encodeSum(crc32c.Checksum(data))})
}

// listUploads answers ListMultipartUploads, in one page.
func (f *Fake) listUploads(prefix string) answer {
	type entry struct {
		Key, Initiated string
		ID             string `xml:"UploadId"`
	}
	var page struct {
		XMLName xml.Name `xml:"ListMultipartUploadsResult"`
		Upload  []entry
	}
	for id, u := range f.uploads {
		if strings.HasPrefix(u.key, prefix) {
			page.Upload = append(page.Upload, entry{u.key, timestamp(u.initiated), id})
		}
	}
	return encode(page)
}

// list answers ListObjectsV2 without continuation tokens.
func (f *Fake) list(prefix, after, most string) answer {
	type entry struct {
		Key, ETag, LastModified string
		Size                    int
	}
	var page struct {
		XMLName     xml.Name `xml:"ListBucketResult"`
		IsTruncated bool
		Contents    []entry
	}
	limit, _ := strconv.Atoi(cmp.Or(most, "1000"))
	for _, key := range slices.Sorted(maps.Keys(f.keys)) {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		if page.IsTruncated = len(page.Contents) == min(limit, 1000); page.IsTruncated {
			break
		}
		s := f.keys[key]
		page.Contents = append(page.Contents, entry{key, s.tag, timestamp(s.modified), len(s.data)})
	}
	return encode(page)
}
