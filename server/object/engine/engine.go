// Package engine says what ObjectService needs of the place where objects are kept, and has what
// all such places share: the rules for names, the errors, the trailer of stored objects, the quota.
// There are two engines, a folder and S3, in packages of their own. None of them knows gRPC.
//
// An upload is begun with a Header, receives bytes in order, and becomes an object as a whole when
// it is finished. Both engines store an object as one file, or one key: its content, and after it
// a trailer with a checksum for each block and all else that is known of it.
package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// Object is what is known of an object besides its content. Its JSON form is stored.
type Object struct {
	// Name is 1 to 128 bytes of UTF-8 without control characters.
	Name string `json:"name"`
	// Generation identifies this content under this name. Of a list it is 0.
	Generation int64 `json:"generation,omitempty"`
	// ContentType is the media type that the uploader named. Of a list it is empty.
	ContentType string `json:"content_type,omitempty"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// CRC32C covers the whole content. Of a list it is 0.
	CRC32C uint32 `json:"crc32c"`
	// SHA256 covers the whole content. It was verified, and is nil if the uploader named none, and
	// of a list.
	SHA256 []byte `json:"sha256,omitempty"`
	// CreateTime is when the upload of this content began, in UTC; of a list, when the store last
	// changed the object.
	CreateTime time.Time `json:"create_time"`
}

// Header is what a sender knows before the first byte. All streams of one upload state the same.
type Header struct {
	// UploadID is chosen by the sender: 16 to 64 of the characters A-Z, a-z, 0-9, - and _.
	UploadID string `json:"upload_id"`
	// Name is the name that the object will have.
	Name string `json:"name"`
	// ContentType is the media type.
	ContentType string `json:"content_type"`
	// Expect is what the sender knows of the whole object.
	Expect Expect `json:"expect"`
	// HashSHA256 says that the sender will name the SHA-256 when it finishes. It counts for the
	// stream that begins the upload.
	HashSHA256 bool `json:"hash_sha256,omitempty"`
}

// Same tells whether two streams are of the same upload.
func (h Header) Same(other Header) bool {
	return h.UploadID == other.UploadID && h.Name == other.Name &&
		h.ContentType == other.ContentType && h.Expect.equal(other.Expect)
}

// Expect is what a sender knows of the whole object. What is named is verified before the object is
// visible.
type Expect struct {
	// Size is in bytes.
	Size *int64 `json:"size,omitempty"`
	// CRC32C covers the whole content.
	CRC32C *uint32 `json:"crc32c,omitempty"`
	// SHA256 covers the whole content: 32 bytes, or empty.
	SHA256 []byte `json:"sha256,omitempty"`
}

// Check returns an ErrInvalidArgument unless the numbers can be those of an object.
func (e Expect) Check() error {
	if e.Size != nil && *e.Size < 0 {
		return fmt.Errorf("%w: size %d", ErrInvalidArgument, *e.Size)
	}
	if len(e.SHA256) != 0 && len(e.SHA256) != sha256.Size {
		return fmt.Errorf("%w: a SHA-256 of %d bytes, want %d", ErrInvalidArgument, len(e.SHA256),
			sha256.Size)
	}
	return nil
}

// equal tells whether both name the same, or leave it out.
func (e Expect) equal(other Expect) bool {
	return equalOptional(e.Size, other.Size) && equalOptional(e.CRC32C, other.CRC32C) &&
		bytes.Equal(e.SHA256, other.SHA256)
}

func equalOptional[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// Match compares with what is known of an object, and returns an ErrSizeMismatch or an
// ErrChecksumMismatch. A SHA-256 that was not computed contradicts nothing.
func (e Expect) Match(o Object) error {
	switch {
	case e.Size != nil && *e.Size != o.Size:
		return fmt.Errorf("%w: %d bytes, want %d", ErrSizeMismatch, o.Size, *e.Size)
	case e.CRC32C != nil && *e.CRC32C != o.CRC32C:
		return fmt.Errorf("%w: CRC-32C of the object is %08x, want %08x", ErrChecksumMismatch, o.CRC32C,
			*e.CRC32C)
	case len(e.SHA256) > 0 && len(o.SHA256) > 0 && !bytes.Equal(e.SHA256, o.SHA256):
		return fmt.Errorf("%w: SHA-256 of the object is %x, want %x", ErrChecksumMismatch, o.SHA256,
			e.SHA256)
	}
	return nil
}

// State is how far an upload is.
type State struct {
	// Name is the one in the header.
	Name string
	// Committed is how many bytes will survive anything; the upload continues there.
	Committed int64
	// Object is set once the upload is finished.
	Object *Object
}

// Take tries to take an upload for its caller alone, until release is called.
type Take func(id string) (release func(), ok bool)

// Engine keeps objects. Any number of goroutines may use it, but no two of a process the same
// upload at once.
//
// Errors are those of this package, such as ErrNotFound, and may wrap others; what is none of them
// is a failure of the engine. The end of ctx is returned as its cause.
type Engine interface {
	// Begin begins an upload, or continues it. If fresh, the sender sends from the first byte, so
	// that the engine need not ask at once whether it knows the upload: it then says so by an
	// OffsetError of Append, Pause or Finish.
	Begin(ctx context.Context, h Header, fresh bool) (Upload, error)
	// Upload returns how far an upload is, or ErrUploadNotFound.
	Upload(ctx context.Context, id string) (State, error)
	// Cancel removes an unfinished upload and what was committed of it, or returns
	// ErrUploadNotFound. Before it removes or tells anything, it asks permit about the name of the
	// upload, and returns its error. An upload that is finished is an ErrUploadFinished.
	Cancel(ctx context.Context, id string, permit func(name string) error) error
	// Expire removes what is kept of uploads that have been idle since before, and returns how many
	// of them were unfinished. It takes each before it looks whether it is idle, and leaves alone what
	// it cannot take, which is busy in this process. One that it cannot remove is logged, and does not
	// keep it from others.
	Expire(ctx context.Context, before time.Time, take Take) (abandoned int, err error)

	// Stat returns an object, or ErrNotFound.
	Stat(ctx context.Context, name string) (Object, error)
	// Open opens an object from offset: limit bytes, or all to the end if that is 0 or beyond it. A
	// generation that is not 0 and is not there is an ErrGenerationGone, an offset beyond the end a
	// RangeError. ctx ends the reading.
	Open(ctx context.Context, name string, generation, offset, limit int64) (Reader, error)
	// List returns at most limit objects whose names begin with prefix and come after one, in the
	// byte order of names, with name, size and time only, and whether there may be more.
	List(ctx context.Context, prefix, after string, limit int) (objects []Object, more bool, err error)
	// Delete removes an object, or returns ErrNotFound. A generation that is not 0 and is not there
	// is an ErrGenerationGone. An object whose trailer is damaged can be deleted without naming its
	// generation.
	Delete(ctx context.Context, name string, generation int64) error

	// Count finds out anew how much is stored, for the quota, where other processes change that.
	Count(ctx context.Context) error
	// Ping tells whether the engine can be read and written. A full one can: it still serves
	// downloads, and the deletions that make room.
	Ping(ctx context.Context) error
	// UploadBytes is how much memory an upload takes besides the messages of its sender.
	UploadBytes() int64
	// Close releases everything. Readers and uploads must be closed before.
	Close() error
}

// Upload receives the bytes of an upload. It belongs to one goroutine. After an error that is no
// OffsetError, or ErrChecksumMismatch of Append, it can only be closed; what was committed stays.
type Upload interface {
	// State returns how far the upload is.
	State() State
	// Append takes bytes, in pieces that follow on what was appended, and is done with the pieces
	// when it returns. If their CRC-32C together is not the one given, it takes none of them and
	// returns an ErrChecksumMismatch, after which the upload is as it was.
	Append(pieces [][]byte, crc32c uint32) error
	// Pause commits what can be: all in a folder, whole parts on S3. It returns how many bytes are
	// committed.
	Pause() (committed int64, err error)
	// Finish verifies the upload against what the header and e state, and makes the object visible.
	// When it returns the object is durable. Finishing again returns the same object.
	//
	// A whole that does not match (ErrSizeMismatch, ErrChecksumMismatch) cannot become right by
	// sending more: the upload is removed.
	Finish(e Expect) (Object, error)
	// Close ends it, and drops what cannot be committed. Closing again does nothing.
	Close() error
}

// Reader reads an object, or a range of it, as it was when it was opened. It belongs to one
// goroutine.
type Reader interface {
	// Object returns the object that is being read.
	Object() Object
	// Remaining returns how many bytes there are still to read.
	Remaining() int64
	// Memory is how many bytes of memory the reading takes, and how many make it faster.
	Memory() (least, most int64)
	// Next reads the next bytes into p: at least one, and fewer than there is room for wherever
	// that is simpler. All of them have been verified; it returns their CRC-32C. At the end it is
	// io.EOF. fast says that there is the memory for it.
	//
	// ErrGenerationGone means that the object was replaced or deleted meanwhile, ErrCorrupt that
	// what comes next is not what was written.
	Next(p []byte, fast bool) (n int, crc32c uint32, err error)
	// Close ends the reading.
	Close() error
}
