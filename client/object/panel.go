package object

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"mime"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/bulk"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/console"
	"example.com/quartet/internal/rpc"
)

//go:embed panel
var panelFiles embed.FS

// newPanel is the page of this service in the console, on which files are sent and fetched, and the
// requests behind it, which any program may use:
//
//	GET    objects/            a page of the list, by prefix and page_token
//	GET    objects/NAME        the content; Range, If-Range, If-None-Match, HEAD
//	PUT    objects/NAME        an object from one stream, verified by Repr-Digest if there is one
//	DELETE objects/NAME
//	…      uploads/            tus 1.0: uploads that continue after a break
//
// NAME is escaped as in any path. objects/?name=NAME is the same, for names such as "..".
func newPanel(s cli.Connection) (console.Panel, error) {
	page, err := fs.Sub(panelFiles, "panel")
	if err != nil {
		return console.Panel{}, err
	}
	p := &panel{client: connect(s), windows: newWindows()}
	uploads, err := newTus(p.client)
	if err != nil {
		return console.Panel{}, err
	}
	uploads = http.StripPrefix("/uploads", uploads)
	// A ServeMux would clean the path, and some names with it.
	api := func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.EscapedPath(); {
		case strings.HasPrefix(path, "/objects/"):
			p.serveObjects(w, r, strings.TrimPrefix(path, "/objects/"))
		case strings.HasPrefix(path, "/uploads/"):
			uploads.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	}
	return console.Panel{Title: "Files", Page: page, API: http.HandlerFunc(api)}, nil
}

// panel answers the requests of the page.
type panel struct {
	client *Client
	// windows has the memory for what all PUT together keep of their bodies.
	windows *bulk.Budget
}

const (
	// minWindow is what a PUT keeps of its body while memory is short: a part of a server that is
	// configured as it comes.
	minWindow = 8 << 20
	// windowWait is how long a PUT waits for memory before it is refused.
	windowWait = 5 * time.Second
)

// newWindows returns a budget of half of the memory that the process may have, or 256 MiB if that
// is not known. Half of it is for windows that are larger than they have to be.
func newWindows() *bulk.Budget {
	bytes := int64(256 << 20)
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		bytes = max(limit/2, minWindow)
	}
	// The console bounds how many requests there are, and so how many may wait.
	return bulk.NewBudget(bytes, bytes/2, windowWait, math.MaxInt)
}

// windowed reserves memory for a PUT of so many bytes, or an unknown number if negative. It returns
// a client that keeps no more, and the function that gives the memory back.
func (p *panel) windowed(ctx context.Context, size int64) (c Client, release func(), err error) {
	c = *p.client
	wanted := int64(c.options.WindowBytes)
	if size >= 0 {
		wanted = min(wanted, size+1) // There has to be room after the last byte, where the end is found.
	}
	bytes, release, err := p.windows.Reserve(ctx, min(wanted, minWindow), wanted)
	if errors.Is(err, bulk.ErrBudget) {
		err = status.Error(codes.ResourceExhausted, "too many uploads at once")
	}
	c.options.WindowBytes = int(bytes)
	return c, release, err
}

// serveObjects answers requests below objects/, with the rest of the path as it was sent.
func (p *panel) serveObjects(w http.ResponseWriter, r *http.Request, escaped string) {
	// The path was not cleaned by a ServeMux, so that any name of an object can be in it.
	name, err := url.PathUnescape(escaped)
	if err != nil {
		http.Error(w, "the name is not escaped as it has to be", http.StatusBadRequest)
		return
	}
	if name == "" {
		name = r.URL.Query().Get("name")
	}
	switch {
	case name == "" && r.Method == http.MethodGet:
		p.list(w, r)
	case name == "":
		http.Error(w, "the name of the object is missing", http.StatusBadRequest)
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		p.get(w, r, name)
	case r.Method == http.MethodPut:
		p.put(w, r, name)
	case r.Method == http.MethodDelete:
		if err := p.client.Delete(r.Context(), name, DeleteOptions{}); err != nil {
			fail(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT, DELETE")
		http.Error(w, "no such method", http.StatusMethodNotAllowed)
	}
}

// objectJSON is an object as the page reads it.
type objectJSON struct {
	Name        string `json:"name"`
	SizeBytes   uint64 `json:"size_bytes,string"`
	ContentType string `json:"content_type,omitempty"`
	CRC32C      string `json:"crc32c,omitempty"`
	SHA256      string `json:"sha256,omitempty"`
	Time        string `json:"create_time"`
}

// describe is an object for the page. Numbers that JavaScript would round are strings.
func describe(o *quartetv1.Object) objectJSON {
	j := objectJSON{
		Name: o.GetName(), SizeBytes: o.GetSizeBytes(), ContentType: o.GetContentType(),
		SHA256: fmt.Sprintf("%x", o.GetSha256()),
		Time:   o.GetCreateTime().AsTime().Format("2006-01-02T15:04:05Z"),
	}
	if o.GetGeneration() != 0 { // A list has no checksums.
		j.CRC32C = checksum(o.GetCrc32C())
	}
	return j
}

// list writes one page of the list of objects.
func (p *panel) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	found, err := p.client.objects.ListObjects(r.Context(), quartetv1.ListObjectsRequest_builder{
		Prefix: query.Get("prefix"), PageToken: query.Get("page_token"),
	}.Build())
	if err != nil {
		fail(w, err)
		return
	}
	page := struct {
		Objects []objectJSON `json:"objects"`
		Next    string       `json:"next_page_token,omitempty"`
	}{Objects: []objectJSON{}, Next: found.GetNextPageToken()}
	for _, o := range found.GetObjects() {
		page.Objects = append(page.Objects, describe(o))
	}
	answer(w, http.StatusOK, page)
}

// answer writes an answer of JSON.
func answer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value) // The peer may be gone.
}

// get writes the content of an object, or a range of it. http.ServeContent handles ranges and
// conditions, and reads from a contentReader.
func (p *panel) get(w http.ResponseWriter, r *http.Request, name string) {
	// What is stored may be a page or a script. It is for people and programs to download, and never
	// becomes a part of the console.
	switch r.Header.Get("Sec-Fetch-Dest") {
	case "", "document", "empty":
	default:
		http.Error(w, "objects are only downloaded", http.StatusForbidden)
		return
	}
	object, err := p.client.Get(r.Context(), name)
	if err != nil {
		fail(w, err)
		return
	}
	header := w.Header()
	// For a browser that shows the content all the same: it may do nothing there.
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	// The browser may keep it, but asks each time whether it is still the same generation.
	header.Set("Cache-Control", "no-cache")
	header.Set("Content-Type", object.GetContentType())
	header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{
		"filename": path.Base(name),
	}))
	header.Set("ETag", etag(object))
	header.Set("Repr-Digest", reprDigest(object))
	// A server may ignore ranges, and several of them would be a download each.
	if strings.Contains(r.Header.Get("Range"), ",") {
		r.Header.Del("Range")
	}
	// The object that was looked up is the one that is read: its generation goes along.
	content := &contentReader{ctx: r.Context(), client: p.client, object: object}
	defer content.Close()
	content.hint(r.Header.Get("Range"))
	http.ServeContent(w, r, "", object.GetCreateTime().AsTime(), content)
	if content.err != nil {
		panic(http.ErrAbortHandler) // The peer has to see that what it got is not all.
	}
}

// etag names the content of an object: its generation, which no other content has.
func etag(o *quartetv1.Object) string {
	return `"` + strconv.FormatInt(o.GetGeneration(), 36) + `"`
}

// put makes an object of a request's body. Nothing is visible before all of it has come and was
// verified, and nothing is left of one that does not. Conditions are refused, because the server
// has none for uploads: to ignore them would overwrite what the caller wanted to keep.
func (p *panel) put(w http.ResponseWriter, r *http.Request, name string) {
	for _, condition := range []string{"If-Match", "If-None-Match", "If-Unmodified-Since"} {
		if r.Header.Get(condition) != "" {
			http.Error(w, condition+" is not supported with PUT", http.StatusNotImplemented)
			return
		}
	}
	if r.Header.Get("Content-Range") != "" {
		http.Error(w, "a PUT has the whole content; uploads/ continues", http.StatusBadRequest)
		return
	}
	// The body is the whole, so that both say the same.
	digests, err := parseDigests(r.Header, "Repr-Digest", "Content-Digest")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// HTTP has another code for an object that is new.
	code := http.StatusOK
	if _, err := p.client.Get(r.Context(), name); status.Code(err) == notFound {
		code = http.StatusCreated
	} else if err != nil {
		fail(w, err)
		return
	}
	client, release, err := p.windowed(r.Context(), r.ContentLength)
	if err != nil {
		fail(w, err)
		return
	}
	defer release()
	body := digests.reader(r.Body)
	object, err := client.uploadOrCancel(r.Context(), name, body, UploadOptions{
		ContentType: r.Header.Get("Content-Type"), Size: max(r.ContentLength, 0),
		SHA256: digests.sha256 != nil,
	})
	if err != nil {
		// The upload's error says only that its source failed.
		if body.err != nil {
			err = body.err
		}
		fail(w, err)
		return
	}
	w.Header().Set("ETag", etag(object))
	answer(w, code, describe(object))
}

// fail answers with what an error says. A caller that is to come back is told when.
func fail(w http.ResponseWriter, err error) {
	code, text := httpError(err)
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter(err))
	}
	http.Error(w, text, code)
}

// retryAfter is the header Retry-After: the seconds that the server has asked to wait, at least
// one.
func retryAfter(err error) string {
	return strconv.Itoa(max(1, int(rpc.RetryDelay(err).Seconds())))
}

// checksumMismatch is tus's status code for content that is not what it should be.
const checksumMismatch = 460

// httpError is the status code of HTTP and the text for an error of a transfer. Codes that are the
// same for all services come from the console.
func httpError(err error) (code int, text string) {
	text = status.Convert(err).Message()
	switch reason := rpc.Reason(err); {
	case errors.Is(err, errDigest), reason == "CHECKSUM_MISMATCH":
		code = checksumMismatch
	case errors.Is(err, errTooSoon):
		code = http.StatusBadRequest
	case errors.Is(err, ErrWindow):
		code = http.StatusUnprocessableEntity
	case isTimeout(err):
		// The error of the network has addresses of this machine.
		code, text = http.StatusRequestTimeout, "nothing more came of the request"
	case errors.Is(err, console.ErrSlow), reason == "IDLE":
		code = http.StatusRequestTimeout
	case reason == "OBJECT_TOO_LARGE":
		code = http.StatusRequestEntityTooLarge
	case isFull(reason):
		code = http.StatusInsufficientStorage
	default:
		code = console.HTTPStatus(err)
	}
	return code, text
}
