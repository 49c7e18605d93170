package web

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/rpc"
)

// refusals has the server answer, and count, what the transcoder refuses by itself: an encoding
// that it does not know, or a stream by a protocol that has none. The transcoder's own answer is
// plain text, which is no error of any protocol.
func refusals(calls *rpc.Server, transcoder http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &answer{ResponseWriter: w}
		transcoder.ServeHTTP(answer, r)
		if answer.refused != 0 {
			calls.RefuseMethod(w, r, answer.refused, clientFault(refusalCodes[answer.refused], "%s",
				strings.TrimSpace(answer.text.String())))
		}
	})
}

// refusalCodes are the codes for the HTTP statuses with which the transcoder refuses what a caller
// did wrong.
var refusalCodes = map[int]codes.Code{
	http.StatusBadRequest:              codes.InvalidArgument,
	http.StatusUnsupportedMediaType:    codes.Unimplemented,
	http.StatusHTTPVersionNotSupported: codes.Unimplemented,
}

// answer passes on all but what the transcoder refuses by itself, which alone is plain text: a call
// ends in the words of its protocol.
type answer struct {
	http.ResponseWriter
	refused int // the HTTP status, or 0
	text    strings.Builder
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if _, known := refusalCodes[status]; known &&
		strings.HasPrefix(a.Header().Get("Content-Type"), "text/plain") {
		a.refused = status
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (a *answer) Write(p []byte) (int, error) {
	if a.refused != 0 {
		return a.text.Write(p)
	}
	return a.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (a *answer) Flush() {
	if flusher, ok := a.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
