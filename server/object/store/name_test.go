package store

import (
	"errors"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for name, valid := range map[string]bool{
		"a": true, " ": true, "../x": true, "/": true, ".": true, ".lock": true, "a\\b": true, "日本語": true, "\u2028": true,
		"a.tmp": true, "x.attrs": true, "\ufffd": true, strings.Repeat("a", 128): true, strings.Repeat("é", 64): true,
		"": false, strings.Repeat("a", 129): false, strings.Repeat("é", 65): false, "a\x00": false, "a\n": false,
		"\x7f": false, "\u0085": false, "\xff": false, "a\xc3": false, "\xed\xa0\x80": false,
	} {
		if err := checkName(name); (err == nil) != valid || (err != nil && !errors.Is(err, ErrInvalidName)) {
			t.Errorf("checkName(%q) = %v, want valid %v", name, err, valid)
		}
	}
}

func TestInvalidNamesAreRefusedEverywhere(t *testing.T) {
	s := openMem(t)
	_, err := s.Get(t.Context(), "a\n")
	wantError(t, err, ErrInvalidName)
	wantError(t, s.Delete(t.Context(), "", 0), ErrInvalidName)
	_, err = s.OpenReader(t.Context(), "", 0, 0, 0)
	wantError(t, err, ErrInvalidName)
}

func FuzzObjectName(f *testing.F) {
	for _, name := range []string{"a", "b", "../x", "a/b", "é", strings.Repeat("z", 128), "", "\xff", "a\x00"} {
		f.Add(name, "a")
		f.Add("a/", name)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		encodedA, encodedB := encodeName(a), encodeName(b)
		if (a < b) != (encodedA < encodedB) || (a == b) != (encodedA == encodedB) {
			t.Errorf("the order of %q and %q is lost in %q and %q", a, b, encodedA, encodedB)
		}
		if b != "" { // Where a list with a prefix begins.
			if before := keyBefore(b); (a >= b) != (manifestKey(a) > before) {
				t.Errorf("a list with the prefix %q begins at the wrong place for %q", b, a)
			}
		}
		decoded, err := decodeName(encodedA)
		if valid := checkName(a) == nil; valid != (err == nil) {
			t.Fatalf("decodeName of %q: %v", a, err)
		}
		if err == nil && (decoded != a || len(encodedA) > 230 || strings.Trim(encodedA, "0123456789abcdefghijklmnopqrstuv") != "") {
			t.Errorf("%q becomes %q and then %q", a, encodedA, decoded)
		}
		// Whatever is found in the bucket decodes to one name, or none.
		if name, err := decodeName(a); err == nil && encodeName(name) != a {
			t.Errorf("%q decodes to %q, which encodes to %q", a, name, encodeName(name))
		}
	})
}
