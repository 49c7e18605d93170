package text

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestWordsMakeTheTextThatTheyCameFrom(t *testing.T) {
	for _, text := range []string{"", "one", "one two three", " spaces  at  the ends ", "ünï cödé", strings.Repeat("x ", MaxBytes/2)} {
		words, err := Words(text, 0)
		if err != nil {
			t.Fatal(err)
		}
		var b Builder
		for _, word := range words {
			if err := b.Add(word); err != nil {
				t.Fatal(err)
			}
		}
		if got, count := b.Text(); got != text || int(count) != len(words) {
			t.Errorf("%q became %q of %d words, which are %d", text, got, count, len(words))
		}
	}
}

func TestAnOffsetLeavesOutTheWordsBeforeIt(t *testing.T) {
	for offset, want := range [][]string{{"a", "b"}, {"b"}, {}} {
		if got, err := Words("a b", uint32(offset)); err != nil || !slices.Equal(got, want) {
			t.Errorf("from %d: %q, %v", offset, got, err)
		}
	}
	for _, offset := range []uint32{3, 1<<32 - 1} {
		if _, err := Words("a b", offset); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("from %d: %v", offset, err)
		}
	}
}

func TestATextAboveTheLimitIsRefused(t *testing.T) {
	large := strings.Repeat("x", MaxBytes)
	if _, err := Words(large+"x", 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("as a whole: %v", err)
	}
	var b Builder
	if err := b.Add(large); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(""); !errors.Is(err, ErrTooLarge) {
		t.Errorf("word by word: %v", err)
	}
}
