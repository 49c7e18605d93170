package object

import (
	"errors"

	"example.com/quartet/internal/rpc"
)

// What a caller may have to tell apart besides the server's status codes and what package rpc
// names.
var (
	// ErrChecksum says that what arrived is not what the server has.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrChanged says that the object was replaced or deleted while it was downloaded; begin again.
	ErrChanged = errors.New("object changed during the download")
	// ErrSourceChanged says that a file was written to, or is not as long as was said, while it was
	// uploaded; nothing of it is visible.
	ErrSourceChanged = errors.New("the source changed during the upload")
	// ErrUploadMismatch says that an upload id belongs to an upload of something else, which is
	// finished.
	ErrUploadMismatch = errors.New("UPLOAD_MISMATCH")
	// ErrWindow says that the server commits parts that are larger than Options.WindowBytes, which
	// is what is kept of a source that cannot be read again. A file can be uploaded.
	ErrWindow = errors.New("the server commits parts that are larger than what is kept of a source " +
		"that cannot be read again: upload a file")

	// errSource says that the source could not be read, for which no server is the reason.
	errSource = errors.New("read source")
	// errAnswered is no error: the server has answered, and that is why an attempt is over.
	errAnswered = errors.New("answered")
)

// sentinels name errors in spans.
var sentinels = []error{ErrChecksum, ErrChanged, ErrSourceChanged, ErrUploadMismatch, ErrWindow}

// isDamage tells errors which say that an object is not, or no longer, what it should be. The
// steady traffic counts them as wrong answers, and not as outages.
func isDamage(err error) bool {
	switch rpc.Reason(err) {
	case "GENERATION_GONE", "CHECKSUM_MISMATCH":
		return true
	}
	return errors.Is(err, ErrChecksum) || errors.Is(err, ErrChanged) ||
		errors.Is(err, ErrSourceChanged)
}
