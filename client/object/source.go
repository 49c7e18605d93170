package object

import (
	"fmt"
	"io"
	"io/fs"
	"math"
)

// source is what an upload reads from, more than once if it has to be.
type source interface {
	// seek makes offset, counted from where the source stood at first, the next byte to read. It
	// may go back as far as to the last release.
	seek(offset int64) error
	// release says that nothing before offset will be asked for again.
	release(offset int64)
	// unchanged returns ErrSourceChanged if the source is not what it was at first. What was read
	// of it may then be part old, part new.
	unchanged() error
	// room is how many bytes can be read from here before something has to be released.
	room() int64
	// Read is io.Reader's.
	io.Reader
}

// newSource makes the most of r: a file is read again where needed, anything else is kept in a
// window.
func newSource(r io.Reader, windowBytes int) source {
	if seeker, ok := r.(io.ReadSeeker); ok {
		// A pipe is an *os.File too, and says only here that it cannot seek.
		if base, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			return &seekable{ReadSeeker: seeker, base: base, first: stat(r)}
		}
	}
	return &window{reader: r, size: windowBytes}
}

// seekable is a source that can be read again from anywhere.
type seekable struct {
	io.ReadSeeker
	// base is where it stood at first.
	base int64
	// first is what a file was at first, nil for anything else.
	first fs.FileInfo
}

// stat is what is known of a regular file, and nil for anything else.
func stat(r io.Reader) fs.FileInfo {
	file, ok := r.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return nil
	}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		return info
	}
	return nil
}

// unchanged goes by size and time of change, as tar and rsync do.
func (s *seekable) unchanged() error {
	if s.first == nil {
		return nil
	}
	now := stat(s.ReadSeeker)
	if now != nil && now.Size() == s.first.Size() && now.ModTime().Equal(s.first.ModTime()) {
		return nil
	}
	return ErrSourceChanged
}

// seek implements source: offsets count from base.
func (s *seekable) seek(offset int64) error {
	_, err := s.Seek(s.base+offset, io.SeekStart)
	return err
}

// release and room have nothing to do: everything can be read again.
func (s *seekable) release(int64) {}
func (s *seekable) room() int64   { return math.MaxInt64 }

// window is a source that can be read once, and keeps what has not been released.
type window struct {
	reader io.Reader
	// size is the most that is kept, in bytes.
	size int
	// kept has the bytes from start on; next is the offset to read next, and lies within them or
	// just after them.
	kept        []byte
	start, next int64
}

// seek fails outside of what is kept.
func (w *window) seek(offset int64) error {
	if offset < w.start || offset > w.start+int64(len(w.kept)) {
		return fmt.Errorf("seek to %d: the source cannot be read again, and what is kept of it is %d to %d",
			offset, w.start, w.start+int64(len(w.kept)))
	}
	w.next = offset
	return nil
}

// release moves what is kept to the front, so that the window takes no more than size.
func (w *window) release(offset int64) {
	// No more than is kept can be dropped.
	n := min(max(offset-w.start, 0), int64(len(w.kept)))
	w.kept = w.kept[:copy(w.kept, w.kept[n:])]
	w.start += n
	w.next = max(w.next, w.start)
}

func (w *window) unchanged() error { return nil } // It is read once.

// room is 0 when the window is full, up to its end.
func (w *window) room() int64 {
	return w.start + int64(w.size) - w.next
}

// Read reads what is kept again, and then from the reader.
func (w *window) Read(p []byte) (int, error) {
	if at := int(w.next - w.start); at < len(w.kept) {
		n := copy(p, w.kept[at:])
		w.next += int64(n)
		return n, nil
	}
	n, err := w.reader.Read(p[:min(len(p), w.size-len(w.kept))])
	if need := len(w.kept) + n; need > cap(w.kept) { // append would take more than size.
		w.kept = append(make([]byte, 0, min(max(need, 2*cap(w.kept)), w.size)), w.kept...)
	}
	w.kept = append(w.kept, p[:n]...)
	w.next += int64(n)
	return n, err
}
