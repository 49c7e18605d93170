package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// Expect is what a sender knows of the whole object. What is named is verified before the object is visible.
type Expect struct {
	// Size is in bytes.
	Size *int64 `json:"size,omitempty"`
	// CRC32C covers the whole content.
	CRC32C *uint32 `json:"crc32c,omitempty"`
	// SHA256 covers the whole content: 32 bytes, or empty. It makes the store read the object once more.
	SHA256 []byte `json:"sha256,omitempty"`
}

func (e Expect) check() error {
	if e.Size != nil && *e.Size < 0 {
		return fmt.Errorf("%w: size %d", ErrInvalidArgument, *e.Size)
	}
	if len(e.SHA256) != 0 && len(e.SHA256) != sha256.Size {
		return fmt.Errorf("%w: a SHA-256 of %d bytes, want %d", ErrInvalidArgument, len(e.SHA256), sha256.Size)
	}
	return nil
}

func (e Expect) equal(other Expect) bool {
	return equalOptional(e.Size, other.Size) && equalOptional(e.CRC32C, other.CRC32C) && bytes.Equal(e.SHA256, other.SHA256)
}

func equalOptional[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// matches compares with what is known of an object. A SHA-256 that was not computed contradicts nothing.
func (e Expect) matches(o *Object) error {
	switch {
	case e.Size != nil && *e.Size != o.Size:
		return fmt.Errorf("%w: %d bytes, want %d", ErrSizeMismatch, o.Size, *e.Size)
	case e.CRC32C != nil && *e.CRC32C != o.CRC32C:
		return fmt.Errorf("%w: CRC-32C of the object is %08x, want %08x", ErrChecksumMismatch, o.CRC32C, *e.CRC32C)
	case len(e.SHA256) > 0 && len(o.SHA256) > 0 && !bytes.Equal(e.SHA256, o.SHA256):
		return fmt.Errorf("%w: SHA-256 of the object is %x, want %x", ErrChecksumMismatch, o.SHA256, e.SHA256)
	}
	return nil
}
