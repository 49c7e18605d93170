package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func listAll(t *testing.T, s *Store, prefix string, pageSize int) (names []string) {
	t.Helper()
	token := ""
	for {
		objects, next, err := s.List(t.Context(), prefix, pageSize, token)
		if err != nil {
			t.Fatal(err)
		}
		if len(objects) > pageSize {
			t.Fatalf("a page of %d, want at most %d", len(objects), pageSize)
		}
		for _, o := range objects {
			names = append(names, o.Name)
		}
		if token = next; token == "" {
			return names
		}
	}
}

func TestPagesListEveryNameOnceInByteOrder(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		all := []string{
			"a", "aa", "ab", "a/b", "a/", "a b", "A", "b", "../x", ".", "..", "/", "~", "é", "ü", "\U0001F600", "0", "9",
			"c", "d", "e", "f", "g", "ga", "gb", "h", "`", "@", "\u00a0", strings.Repeat("z", 128),
		}
		for _, name := range all {
			upload(t, s, name, nil)
		}
		slices.Sort(all)
		for _, prefix := range []string{"", "a", "a/", "g", "\xc3", "z", "zz", "nothing", "\xff", " ", strings.Repeat("z", 200)} {
			var want []string
			for _, name := range all {
				if strings.HasPrefix(name, prefix) {
					want = append(want, name)
				}
			}
			for _, pageSize := range []int{1, 2, 7, 1000} {
				if got := listAll(t, s, prefix, pageSize); !slices.Equal(got, want) {
					t.Errorf("prefix %q, pages of %d: %q, want %q", prefix, pageSize, got, want)
				}
			}
		}
	})
}

func TestPagesHaveADefaultAndALargestSize(t *testing.T) {
	s := openMem(t)
	for i := range 1001 {
		m := &manifest{Object: Object{Name: fmt.Sprintf("%04d", i)}}
		if err := s.bucket.put(t.Context(), manifestKey(m.Name), encodeJSON(m)); err != nil {
			t.Fatal(err)
		}
	}
	for pageSize, want := range map[int]int{0: 100, 1: 1, 1000: 1000, 5000: 1000} {
		objects, next, err := s.List(t.Context(), "", pageSize, "")
		if err != nil || len(objects) != want || next == "" {
			t.Errorf("page size %d: %d objects, next %q, %v", pageSize, len(objects), next, err)
		}
	}
}

func TestMalformedPagesAreRefused(t *testing.T) {
	s := openMem(t)
	_, _, err := s.List(t.Context(), "", -1, "")
	wantError(t, err, ErrInvalidArgument)
	for _, token := range []string{
		"!", "====", "a", pageTokenAfter("\x00"), pageTokenAfter("\xff\xfe"),
		pageTokenAfter(strings.Repeat("x", 129)), pageTokenAfter("other prefix"), strings.Repeat("A", 1<<16),
	} {
		_, _, err := s.List(t.Context(), "p", 0, token)
		wantError(t, err, ErrInvalidArgument)
	}
}

func TestForeignKeysAreNotListed(t *testing.T) {
	engines(t, func(t *testing.T, s *Store) {
		for i := range 10 { // Before, between and after.
			for _, key := range []string{"!%d", "c4.%d", "~%d", "X%d"} {
				if err := s.bucket.put(t.Context(), objectsFolder+fmt.Sprintf(key, i), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		upload(t, s, "a", nil)
		upload(t, s, "b", nil)
		for _, pageSize := range []int{1, 2, 3, 100} {
			if got := listAll(t, s, "", pageSize); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("pages of %d: %q", pageSize, got)
			}
		}
	})
}
