package engine

import (
	"errors"
	"fmt"
	"syscall"
)

// The errors of this package, told apart with errors.Is. Any other error is a failure of the store.
var (
	// ErrInvalidName means that a name is not 1 to 128 bytes of UTF-8 without control characters.
	ErrInvalidName = errors.New("invalid object name")
	// ErrInvalidUploadID means that an upload id is not 16 to 64 of the characters A-Z, a-z, 0-9, -
	// and _.
	ErrInvalidUploadID = errors.New("invalid upload id")
	// ErrInvalidContentType means that a content type is longer than 255 bytes or not printable
	// ASCII.
	ErrInvalidContentType = errors.New("invalid content type")
	// ErrInvalidArgument means that another argument is malformed: a page size, a page token, an
	// offset, a hash.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrNotFound means that there is no object of this name.
	ErrNotFound = errors.New("object not found")
	// ErrUploadNotFound means that no upload of this id has begun, or that it was given up and
	// removed.
	ErrUploadNotFound = errors.New("upload not found")
	// ErrUploadFinished means that an upload is an object already.
	ErrUploadFinished = errors.New("upload is finished")
	// ErrGenerationGone means that the generation asked for was replaced or deleted.
	ErrGenerationGone = errors.New("object generation gone")
	// ErrOutOfRange means that an offset lies beyond the end; the error is a *RangeError.
	ErrOutOfRange = errors.New("offset beyond the end")
	// ErrOffsetMismatch means that a chunk does not begin where the upload continues; the error is
	// an *OffsetError.
	ErrOffsetMismatch = errors.New("chunk at an unexpected offset")
	// ErrChecksumMismatch means that the bytes of a chunk or of a whole object are not those the
	// sender stated.
	ErrChecksumMismatch = errors.New("checksum mismatch")
	// ErrSizeMismatch means that an object has not the size the sender stated.
	ErrSizeMismatch = errors.New("size mismatch")
	// ErrUploadMismatch means that an upload is continued with another header than it began with.
	ErrUploadMismatch = errors.New("upload began with another header")
	// ErrWriterReplaced means that a newer writer took the upload over.
	ErrWriterReplaced = errors.New("upload was taken over by a newer writer")
	// ErrTooLarge means that an object would be larger than is allowed.
	ErrTooLarge = errors.New("object too large")
	// ErrStoreFull means that the disk, or a quota on it, is full.
	ErrStoreFull = errors.New("store is full")
	// ErrQuotaExceeded means that an upload does not fit into the quota beside what is stored.
	ErrQuotaExceeded = errors.New("quota exceeded")
	// ErrUnavailable means that the store cannot be reached, or answers that it is busy. What was
	// committed is safe.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrCorrupt means that stored bytes are not those that were written.
	ErrCorrupt = errors.New("stored bytes are corrupt")
)

// OffsetError tells where an upload continues. It is an ErrOffsetMismatch.
type OffsetError struct {
	// Committed is the offset that was expected, in bytes. All bytes before it are committed.
	Committed int64
}

func (e *OffsetError) Error() string {
	return fmt.Sprintf("%v: %d bytes are committed", ErrOffsetMismatch, e.Committed)
}

func (e *OffsetError) Unwrap() error { return ErrOffsetMismatch }

// RangeError tells the size of an object that was to be read beyond its end. It is an
// ErrOutOfRange.
type RangeError struct {
	// Size is the object's size in bytes.
	Size int64
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("%v: the object has %d bytes", ErrOutOfRange, e.Size)
}

func (e *RangeError) Unwrap() error { return ErrOutOfRange }

// During wraps an error with what was being done. A full disk becomes an ErrStoreFull, because an
// operator or a caller can make room.
func During(action string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: %w: %w", action, ErrStoreFull, err)
	default:
		return fmt.Errorf("%s: %w", action, err)
	}
}
