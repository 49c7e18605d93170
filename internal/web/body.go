package web

import (
	"encoding/binary"
	"io"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

// checked is the request with a body that keeps to the framing of its protocol. Vanguard would
// answer the mistakes that are found here from the goroutine that reads, while another one may be
// writing the answer of the call.
func checked(r *http.Request, window int64) *http.Request {
	switch contentType := r.Header.Get("Content-Type"); {
	case strings.HasPrefix(contentType, "application/connect+"),
		strings.HasPrefix(contentType, "application/grpc-web"):
		r.Body = &enveloped{ReadCloser: r.Body}
	case r.ContentLength < 0 && !strings.HasPrefix(contentType, "application/grpc"):
		// The length stands before a message of gRPC. So all of this one has to be there before the call
		// can ask for it.
		r.Body = &unmeasured{r.Body, window}
	}
	return r
}

// enveloped is a body of messages behind five bytes each: a flag and a length.
type enveloped struct {
	io.ReadCloser
	prefix [5]byte
	have   int   // bytes of the prefix
	rest   int64 // bytes of the message
	err    error
}

// Read implements io.Reader.
func (e *enveloped) Read(p []byte) (n int, err error) {
	if e.err != nil {
		return 0, e.err
	}
	n, err = e.ReadCloser.Read(p)
	for data := p[:n]; len(data) > 0; {
		if e.rest > 0 {
			skipped := min(e.rest, int64(len(data)))
			e.rest -= skipped
			data = data[skipped:]
			continue
		}
		if e.have == 0 && data[0] > 1 {
			e.err = clientFault(codes.InvalidArgument,
				"a message begins with the flag %d, which no message of a request has", data[0])
			return 0, e.err
		}
		copied := copy(e.prefix[e.have:], data)
		e.have += copied
		data = data[copied:]
		if e.have == len(e.prefix) {
			e.have, e.rest = 0, int64(binary.BigEndian.Uint32(e.prefix[1:]))
		}
	}
	return n, err
}

// unmeasured is a body that is one message of unknown length.
type unmeasured struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (u *unmeasured) Read(p []byte) (n int, err error) {
	n, err = u.ReadCloser.Read(p)
	if u.left -= int64(n); u.left < 0 {
		return 0, clientFault(codes.ResourceExhausted,
			"a request of this size has to come with its Content-Length")
	}
	return n, err
}

func clientFault(code codes.Code, format string, args ...any) error {
	return &telemetry.ClientFault{Status: status.Newf(code, format, args...)}
}
