package engine

import (
	"encoding/base32"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// Both as the contract says.
	maxNameBytes        = 128
	maxContentTypeBytes = 255
)

// nameEncoding keeps the byte order of names, needs no escaping in any engine, and has one case,
// for file systems that do not tell two apart. It turns 128 bytes into 205 characters, where a path
// element may have 255.
var nameEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// EncodeName returns the element of a path, or of a key, that stands for a name. It keeps the order
// of names.
func EncodeName(name string) string { return nameEncoding.EncodeToString([]byte(name)) }

// DecodeName is the inverse of EncodeName. It accepts nothing that EncodeName does not produce from
// a valid name.
func DecodeName(encoded string) (string, error) {
	raw, err := nameEncoding.DecodeString(encoded)
	name := string(raw)
	if err != nil || EncodeName(name) != encoded {
		return "", fmt.Errorf("%w: encoded as %q", ErrInvalidName, encoded)
	}
	return name, CheckName(name)
}

// CheckName returns an ErrInvalidName unless an object can have the name.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > maxNameBytes:
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrInvalidName, len(name), maxNameBytes)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: not UTF-8", ErrInvalidName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: has a control character", ErrInvalidName)
	}
	return nil
}

// uploadID leaves only characters that may be in a file name and in a key, so that an id is used in
// both as it is.
var uploadID = regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)

// CheckUploadID returns an ErrInvalidUploadID unless an upload can have the id.
func CheckUploadID(id string) error {
	if !uploadID.MatchString(id) {
		return fmt.Errorf("%w: want 16 to 64 of the characters A-Z, a-z, 0-9, - and _", ErrInvalidUploadID)
	}
	return nil
}

// CheckContentType returns an ErrInvalidContentType unless a header can have the type.
func CheckContentType(contentType string) error {
	if len(contentType) > maxContentTypeBytes {
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrInvalidContentType, len(contentType),
			maxContentTypeBytes)
	}
	if strings.ContainsFunc(contentType, func(c rune) bool { return c < ' ' || c > '~' }) {
		return fmt.Errorf("%w: has a character that is not printable ASCII", ErrInvalidContentType)
	}
	return nil
}
