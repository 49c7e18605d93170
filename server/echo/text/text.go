// Package text is the domain of EchoService: texts and their words. It knows no gRPC.
package text

import (
	"errors"
	"fmt"
	"strings"
)

// MaxBytes is the size in bytes of the largest text.
const MaxBytes = 64 << 10

var (
	// ErrTooLarge says that a text has more than MaxBytes.
	ErrTooLarge = fmt.Errorf("text must be at most %d bytes", MaxBytes)
	// ErrOutOfRange says that a text has fewer words than an offset.
	ErrOutOfRange = errors.New("offset is above the number of words")
)

// Check returns ErrTooLarge for a text that is too large.
func Check(text string) error {
	if len(text) > MaxBytes {
		return ErrTooLarge
	}
	return nil
}

// Words returns the words of a text from an offset on.
func Words(text string, offset uint32) ([]string, error) {
	if err := Check(text); err != nil {
		return nil, err
	}
	words := strings.Split(text, " ")
	if int64(offset) > int64(len(words)) {
		return nil, fmt.Errorf("%w, which is %d", ErrOutOfRange, len(words))
	}
	return words[offset:], nil
}

// Builder makes a text of words. The zero value is ready to use.
type Builder struct {
	text  strings.Builder
	count uint32
}

// Add adds a word, or returns ErrTooLarge if the text would be.
func (b *Builder) Add(word string) error {
	if b.count > 0 {
		word = " " + word
	}
	if b.text.Len()+len(word) > MaxBytes {
		return ErrTooLarge
	}
	b.text.WriteString(word)
	b.count++
	return nil
}

// Text returns the text, and how many words it has.
func (b *Builder) Text() (text string, count uint32) { return b.text.String(), b.count }
