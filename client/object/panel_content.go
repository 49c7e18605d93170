package object

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/crc32c"
)

// notFound is how the server says that there is no such object.
const notFound = codes.NotFound

// contentReader reads an object from wherever it is told to, by a download that begins with the
// first Read. It is an io.ReadSeeker for http.ServeContent, which seeks to the end for the size
// before it reads anything. It belongs to the goroutine of the request.
type contentReader struct {
	ctx    context.Context
	client *Client
	object *quartetv1.Object
	// from and limit are the range that will be read, if the request says so.
	from, limit int64

	// at is the offset of the next byte.
	at int64
	// open is the download under way; nil if there is none.
	open *openContent
	// err is why reading failed, which ServeContent does not return.
	err error
}

// openContent is a download under way, by a goroutine that writes into a pipe. cancel ends it, and
// done is closed when it has ended.
type openContent struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// oneRange matches one range that has both ends. For all others the download goes to the end of the
// object, and is cancelled when enough was read.
var oneRange = regexp.MustCompile(`^bytes=(\d{1,18})-(\d{1,18})$`)

// hint takes what a Range header wants, so that no more is asked of the server.
func (c *contentReader) hint(header string) {
	if found := oneRange.FindStringSubmatch(header); found != nil {
		c.from, _ = strconv.ParseInt(found[1], 10, 64)
		last, _ := strconv.ParseInt(found[2], 10, 64)
		c.limit = max(last-c.from+1, 0)
	}
}

// Seek implements io.Seeker. A download that is under way ends if it is elsewhere.
func (c *contentReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += int64(c.object.GetSizeBytes())
	}
	if offset < 0 {
		return 0, os.ErrInvalid
	}
	if offset != c.at {
		c.Close()
	}
	c.at = offset
	return offset, nil
}

// Read implements io.Reader.
func (c *contentReader) Read(p []byte) (int, error) {
	if c.at >= int64(c.object.GetSizeBytes()) {
		return 0, io.EOF
	}
	if c.open == nil {
		c.begin()
	}
	n, err := c.open.Read(p)
	c.at += int64(n)
	if errors.Is(err, io.EOF) && c.limit > 0 {
		// More is wanted than what the header said, as with an If-Range that does not hold.
		c.Close()
		// The next Read begins a download without a limit.
		c.limit, err = 0, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// begin starts a download at the offset. Its generation is the one that the headers of the answer
// have named.
func (c *contentReader) begin() {
	limit, size := int64(0), int64(c.object.GetSizeBytes())-c.at
	// The server sends no more than the range, as the header has said it.
	if c.at == c.from && c.limit > 0 {
		limit = c.limit
		size = min(size, limit)
	}
	options := DownloadOptions{Generation: c.object.GetGeneration(), Offset: c.at, Limit: limit}
	ctx, cancel := context.WithCancel(c.ctx)
	reader, writer := io.Pipe()
	done := make(chan struct{})
	c.open = &openContent{reader, cancel, done}
	go func() {
		defer close(done)
		// Download verifies the whole at its end, when all but the last byte was passed on.
		to := &holdBack{Writer: writer, left: size}
		_, err := c.client.Download(ctx, c.object.GetName(), to, options)
		if err == nil {
			err = to.release()
		}
		_ = writer.CloseWithError(err) // It never fails.
	}()
}

// Close ends a download that is under way.
func (c *contentReader) Close() {
	if c.open == nil {
		return
	}
	c.open.cancel()
	_ = c.open.Close() // It never fails.
	<-c.open.done
	c.open = nil
}

// holdBack keeps the last byte of what is written until release, which is when the whole was
// verified. A peer that counts bytes has then not got all of what is damaged.
type holdBack struct {
	io.Writer
	// left is how many bytes are still to come.
	left int64
	last []byte
}

// Write implements io.Writer.
func (h *holdBack) Write(p []byte) (int, error) {
	h.left -= int64(len(p))
	if h.left > 0 || len(p) == 0 {
		return h.Writer.Write(p)
	}
	h.last = []byte{p[len(p)-1]}
	n, err := h.Writer.Write(p[:len(p)-1])
	if err == nil {
		n = len(p)
	}
	return n, err
}

// release writes the last byte.
func (h *holdBack) release() error {
	_, err := h.Writer.Write(h.last)
	return err
}

// What a request may be refused for.
var (
	errDigest  = errors.New("the content is not what its digest says")
	errTooSoon = errors.New("the request ended before all of its content came")
)

// isTimeout tells whether the body of a request did not come in time.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// digests are those of a whole content that a request names, by the algorithms of RFC 9530. What is
// nil was not named.
type digests struct {
	sha256 []byte
	crc32c *uint32
}

// parseDigests takes the digests of the fields that are about the whole content. An algorithm that
// is not known is left out, as the RFC wants it.
func parseDigests(header http.Header, names ...string) (d digests, err error) {
	var fields []string
	for _, name := range names {
		fields = append(fields, header.Values(name)...)
	}
	// Several fields, and several items in a field, are one list.
	for item := range strings.SplitSeq(strings.Join(fields, ","), ",") {
		algorithm, value, _ := strings.Cut(strings.TrimSpace(item), "=")
		size := map[string]int{"sha-256": sha256.Size, "crc32c": 4}[algorithm]
		if size == 0 {
			continue
		}
		encoded, _ := strings.CutPrefix(value, ":")
		sum, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, ":"))
		if err != nil || len(sum) != size {
			return d, fmt.Errorf("the digest %s is none of %d bytes in base64", algorithm, size)
		}
		if algorithm == "crc32c" {
			d.crc32c = new(binary.BigEndian.Uint32(sum))
		} else {
			d.sha256 = sum
		}
	}
	return d, nil
}

// reprDigest is the header that names the digests of an object.
func reprDigest(o *quartetv1.Object) string {
	sum := binary.BigEndian.AppendUint32(nil, o.GetCrc32C())
	text := "crc32c=:" + base64.StdEncoding.EncodeToString(sum) + ":"
	if len(o.GetSha256()) > 0 {
		text += ", sha-256=:" + base64.StdEncoding.EncodeToString(o.GetSha256()) + ":"
	}
	return text
}

// reader passes content on, and fails at its end if it is not what the digests say.
func (d digests) reader(r io.Reader) *digestReader {
	reader := &digestReader{Reader: r, want: d}
	if d.sha256 != nil {
		reader.sha = sha256.New()
	}
	return reader
}

// digestReader reads a request's body and computes its digests.
type digestReader struct {
	io.Reader
	want digests
	sha  hash.Hash // nil if it is not wanted
	crc  uint32
	// err is why it failed, which an upload has in other words.
	err error
}

// Read implements io.Reader. Its error is errTooSoon where the body of a request was cut.
func (d *digestReader) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if d.want.crc32c != nil {
		d.crc = crc32c.Combine(d.crc, crc32c.Checksum(p[:n]), int64(n))
	}
	if d.sha != nil {
		d.sha.Write(p[:n])
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errTooSoon
	case !errors.Is(err, io.EOF):
	case d.want.crc32c != nil && d.crc != *d.want.crc32c,
		d.sha != nil && string(d.sha.Sum(nil)) != string(d.want.sha256):
		err = errDigest
	}
	if err != nil && !errors.Is(err, io.EOF) {
		d.err = err
	}
	return n, err
}

// cancelTimeout is how long the removal of an upload that failed may take, after the request may
// have ended.
const cancelTimeout = 5 * time.Second

// uploadOrCancel uploads what can be read once, and cancels an upload that fails: without its
// source nothing could continue it.
func (c *Client) uploadOrCancel(
	ctx context.Context,
	name string,
	r io.Reader,
	options UploadOptions,
) (*quartetv1.Object, error) {
	options.ID = uuid.NewString()
	object, err := c.Upload(ctx, name, r, options)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer cancel()
		// The error that counts is the upload's. What is left all the same, the server removes later.
		_ = c.CancelUpload(ctx, options.ID, CancelOptions{AllowMissing: true})
	}
	return object, err
}
