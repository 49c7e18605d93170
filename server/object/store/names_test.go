package store

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// partsOf lists the folder of parts, page by page.
func partsOf(t *testing.T, b bucket, page int) (keys []string) {
	t.Helper()
	for after, more := "", true; more; {
		var entries []entry
		var err error
		if entries, more, err = b.list(t.Context(), partsFolder, after, page); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, keysOf(entries)...)
		if more {
			after = keys[len(keys)-1]
		}
	}
	return keys
}

// The names are kept between lists, so each change comes after one.
func TestAListHasWhatIsWrittenAndNotWhatIsRemoved(t *testing.T) {
	s := openFolder(t, t.TempDir())
	defer closeStore(t, s)
	b := s.bucket
	expect := func(what string, want ...string) {
		t.Helper()
		for _, page := range []int{1, 3, 1000} {
			if got := partsOf(t, b, page); !slices.Equal(got, want) {
				t.Errorf("%s, pages of %d: %q, want %q", what, page, got, want)
			}
		}
	}
	expect("at first")
	for _, name := range []string{"b", "a", "d"} {
		if err := b.create(t.Context(), partsFolder+name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.put(t.Context(), partsFolder+"c", nil); err != nil {
		t.Fatal(err)
	}
	expect("written", "parts/a", "parts/b", "parts/c", "parts/d")
	if err := b.delete(t.Context(), partsFolder+"b"); err != nil {
		t.Fatal(err)
	}
	if err := b.discard(t.Context(), partsFolder+"d"); err != nil {
		t.Fatal(err)
	}
	expect("removed", "parts/a", "parts/c")
	w, err := b.writer(t.Context(), partsFolder+"e", 1)
	if err != nil {
		t.Fatal(err)
	}
	expect("being written", "parts/a", "parts/c")
	if err := w.commit(); err != nil {
		t.Fatal(err)
	}
	expect("committed", "parts/a", "parts/c", "parts/e")
}

// An operator may restore a backup, or remove files.
func TestAListSeesWhatOthersDoToTheFolder(t *testing.T) {
	s := openFolder(t, t.TempDir())
	defer closeStore(t, s)
	b := s.bucket.(*fileBucket)
	partsOf(t, b, 10)
	if err := os.WriteFile(b.path(partsFolder+"restored"), nil, privateMode); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * keptNames); !slices.Equal(partsOf(t, b, 10), []string{"parts/restored"}); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a list does not have it")
		}
	}
	if err := os.Remove(b.path(partsFolder + "restored")); err != nil {
		t.Fatal(err)
	}
	if got := partsOf(t, b, 10); len(got) > 0 {
		t.Errorf("a list has %q, which is gone", got)
	}
}

// More names than are looked at together are listed while others come and go; those that stay are in every list.
func TestAListIsCompleteWhileOthersWrite(t *testing.T) {
	s := openFolder(t, t.TempDir())
	defer closeStore(t, s)
	var want []string
	for i := range 2*someNames + 10 {
		key := fmt.Sprintf("%s%06d", partsFolder, 2*i)
		want = append(want, key)
		if err := s.bucket.create(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	stop := make(chan struct{})
	var writing sync.WaitGroup
	for writer := range 4 {
		writing.Go(func() {
			for i := writer; ; i = (i + 37) % len(want) {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("%s%06d.%d", partsFolder, 2*i+1, writer)
				if err := s.bucket.create(t.Context(), key, nil); err != nil {
					t.Error(err)
					return
				}
				if err := s.bucket.discard(t.Context(), key); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 20 {
		got := partsOf(t, s.bucket, 100)
		if !slices.IsSorted(got) {
			t.Error("a list is not in order")
		}
		stay := slices.DeleteFunc(got, func(key string) bool { _, stays := slices.BinarySearch(want, key); return !stays })
		if !slices.Equal(stay, want) {
			t.Errorf("a list has %d of the %d keys that stay", len(stay), len(want))
		}
	}
	close(stop)
	writing.Wait()
}
