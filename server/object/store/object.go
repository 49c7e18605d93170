// Package store keeps named objects of any size in a blob bucket. It knows neither gRPC nor the generated code.
//
// An object is a manifest, which names the parts that hold its content. Parts arrive one after another through a Writer,
// and each is committed by a small record that only one writer can create, so that an upload continues after any
// break, on any replica, where the last record ends. The object becomes visible when its manifest is written, as a whole.
//
// The bucket has three folders, and every key in them is one path element:
//
//	objects/<encoded name>                          the manifest of the object that has this name now; on a shared
//	                                                bucket, for a while, the tombstone of one that was deleted
//	uploads/<upload id>.header                      what an upload began with; decides its generation
//	uploads/<upload id>.<generation>.<index>        the record of a committed part, or the seal after the last one
//	uploads/<upload id>.<generation>.complete       the finished object, kept so that finishing again has an answer
//	parts/<upload id>.<generation>.<index>.<random> the bytes of a part
//	parts/<upload id>.<generation>.name             the name of their object, once the upload is forgotten
package store

import (
	"encoding/base32"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Object is what is known of an object besides its content. Its JSON form is stored.
type Object struct {
	// Name is 1 to 128 bytes of UTF-8 without control characters.
	Name string `json:"name"`
	// Generation identifies this content under this name.
	Generation int64 `json:"generation"`
	// ContentType is the media type that the uploader named.
	ContentType string `json:"content_type"`
	// Size is in bytes.
	Size int64 `json:"size"`
	// CRC32C covers the whole content.
	CRC32C uint32 `json:"crc32c"`
	// SHA256 covers the whole content. It was verified, and is nil if the uploader named none.
	SHA256 []byte `json:"sha256,omitempty"`
	// CreateTime is when the upload of this content began, in UTC.
	CreateTime time.Time `json:"create_time"`
}

const (
	maxNameBytes        = 128
	maxContentTypeBytes = 255
	minUploadIDBytes    = 16
	maxUploadIDBytes    = 64
	defaultContentType  = "application/octet-stream"
)

// nameEncoding keeps the byte order of names, needs no escaping in any engine, and has one case, for file systems that
// do not tell two apart. It turns 128 bytes into 205 characters, where a path element may have 255.
var nameEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

func encodeName(name string) string { return nameEncoding.EncodeToString([]byte(name)) }

// decodeName is the inverse of encodeName. It accepts nothing that encodeName does not produce from a valid name.
func decodeName(encoded string) (string, error) {
	raw, err := nameEncoding.DecodeString(encoded)
	if err != nil {
		return "", fmt.Errorf("%w: encoded as %q", ErrInvalidName, encoded)
	}
	name := string(raw)
	if encodeName(name) != encoded {
		return "", fmt.Errorf("%w: encoded as %q", ErrInvalidName, encoded)
	}
	return name, checkName(name)
}

func checkName(name string) error {
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

func checkUploadID(id string) error {
	if len(id) < minUploadIDBytes || len(id) > maxUploadIDBytes {
		return fmt.Errorf("%w: %d bytes, want %d to %d", ErrInvalidUploadID, len(id), minUploadIDBytes, maxUploadIDBytes)
	}
	for _, c := range []byte(id) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("%w: has a character other than A-Z, a-z, 0-9, - and _", ErrInvalidUploadID)
		}
	}
	return nil
}

func checkContentType(contentType string) error {
	if len(contentType) > maxContentTypeBytes {
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrInvalidContentType, len(contentType), maxContentTypeBytes)
	}
	for _, c := range []byte(contentType) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("%w: has a character that is not printable ASCII", ErrInvalidContentType)
		}
	}
	return nil
}
