package engine

import (
	"strings"
	"testing"
)

// FuzzNames gives names to an engine: each that an object may have becomes an element of a path
// that no other name becomes, in the order of names.
func FuzzNames(f *testing.F) {
	for _, pair := range [][2]string{
		{"a", "b"}, {"a", "a\x00"}, {"../x", "/"}, {"", "."}, {"é", "e\u0301"}, {"\xff", "\u0085"}, {"A", "a"},
		{strings.Repeat("x", maxNameBytes), strings.Repeat("x", maxNameBytes+1)},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if CheckName(a) != nil {
			return
		}
		encoded := EncodeName(a)
		if len(encoded) > 255 || strings.Trim(encoded, "0123456789abcdefghijklmnopqrstuv") != "" {
			t.Errorf("%q is stored as %q", a, encoded)
		}
		if decoded, err := DecodeName(encoded); err != nil || decoded != a {
			t.Errorf("%q is stored as %q, which is %q, %v", a, encoded, decoded, err)
		}
		if CheckName(b) == nil && strings.Compare(a, b) != strings.Compare(encoded, EncodeName(b)) {
			t.Errorf("%q and %q are stored in another order", a, b)
		}
	})
}

// FuzzStoredNames reads what lies in a folder or a bucket: only what this engine would have stored
// a name as is one.
func FuzzStoredNames(f *testing.F) {
	for _, encoded := range []string{"c4", "C4", "c5", "c", "c4======", "c\n4", "..", ""} {
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		name, err := DecodeName(encoded)
		if err == nil && (CheckName(name) != nil || EncodeName(name) != encoded) {
			t.Errorf("%q is the name %q", encoded, name)
		}
	})
}
