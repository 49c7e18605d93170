// Package enginetest has the tests that every engine passes.
package enginetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
)

// PartBytes is the size of parts that an engine under test has.
const PartBytes = 64 << 10

// ID returns the id of an upload that no other has.
func ID() string { return rand.Text() }

// Content returns random bytes.
func Content(n int) []byte {
	content := make([]byte, n)
	_, _ = rand.Read(content)
	return content
}

// Send begins or continues an upload and appends content from an offset on, in pieces of an odd
// size.
func Send(
	ctx context.Context, e engine.Engine, h engine.Header, content []byte, from int64,
) (engine.Upload, error) {
	u, err := e.Begin(ctx, h, from == 0)
	if err != nil {
		return nil, err
	}
	for chunk := range slices.Chunk(content[from:], 9999) {
		half := len(chunk) / 2
		if err := u.Append([][]byte{chunk[:half], chunk[half:]}, crc32c.Checksum(chunk)); err != nil {
			return nil, errors.Join(err, u.Close())
		}
	}
	return u, nil
}

// Put makes an object.
func Put(
	ctx context.Context, e engine.Engine, h engine.Header, content []byte,
) (engine.Object, error) {
	u, err := Send(ctx, e, h, content, 0)
	if err != nil {
		return engine.Object{}, err
	}
	o, err := u.Finish(engine.Expect{CRC32C: new(crc32c.Checksum(content))})
	return o, errors.Join(err, u.Close())
}

// Read reads a range of an object, with buffers of a size.
func Read(
	ctx context.Context, e engine.Engine, name string, generation, offset, limit int64, buffer int,
	fast bool,
) ([]byte, error) {
	r, err := e.Open(ctx, name, generation, offset, limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, p := []byte{}, make([]byte, buffer)
	for {
		n, sum, err := r.Next(p, fast)
		if errors.Is(err, io.EOF) {
			return content, nil
		}
		if err != nil {
			return content, err
		}
		if sum != crc32c.Checksum(p[:n]) {
			return content, fmt.Errorf("the checksum of %d bytes at %d is wrong", n,
				offset+int64(len(content)))
		}
		content = append(content, p[:n]...)
	}
}

// header begins a new upload of a name.
func header(name string) engine.Header {
	return engine.Header{UploadID: ID(), Name: name, ContentType: "text/plain"}
}

// Run runs the tests on engines that open returns, each of them empty; a second call of reopen
// returns what another process, or the next one, finds in the same place.
func Run(t *testing.T, open func(t *testing.T) (e engine.Engine, reopen func() engine.Engine)) {
	for name, test := range map[string]func(*testing.T, engine.Engine, func() engine.Engine){
		"objects of all sizes come back, whole and in ranges": sizes,
		"an upload continues in another process":              resumes,
		"finishing again returns the same object":             again,
		"a whole that is wrong is refused and leaves nothing": wrongWhole,
		"a damaged chunk is not taken, and the next one is":   damagedChunk,
		"another header is refused":                           otherHeader,
		"a reader is told when its object goes":               gone,
		"lists go through all names in order":                 lists,
		"abandoned uploads expire, others do not":             expires,
		"an upload can be cancelled, once":                    cancels,
		"a SHA-256 is verified, over several streams":         sha,
		"deletions are of one generation":                     deletes,
	} {
		t.Run(name, func(t *testing.T) {
			e, reopen := open(t)
			test(t, e, reopen)
		})
	}
}

// must returns the value of a call and ends the test at its error, of which what says where it was.
func must[T any](t *testing.T, what string) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return v
	}
}

// lookUp is Stat that has to succeed.
func lookUp(t *testing.T, e engine.Engine, name string) engine.Object {
	t.Helper()
	return must[engine.Object](t, "look up")(e.Stat(t.Context(), name))
}

// progress is Upload that has to succeed.
func progress(t *testing.T, e engine.Engine, id string) engine.State {
	t.Helper()
	return must[engine.State](t, "progress")(e.Upload(t.Context(), id))
}

// finishAgain is Finish that has to succeed, with nothing more than the header states.
func finishAgain(t *testing.T, u engine.Upload) engine.Object {
	t.Helper()
	return must[engine.Object](t, "finish again")(u.Finish(engine.Expect{}))
}

// want ends the test unless err is the one that is wanted.
func want(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

// sizes has objects around the sizes of blocks and parts, in which the two engines store
// differently, and reads ranges of each with buffers that are smaller and larger than a block, with
// memory and without.
func sizes(t *testing.T, e engine.Engine, _ func() engine.Engine) {
	for _, size := range []int{0, 1, 1000, 32 << 10, 40_000, PartBytes - 1, PartBytes, PartBytes + 1,
		3 * PartBytes, 300_000} {
		content := Content(size)
		o := must[engine.Object](t, "put")(Put(t.Context(), e, header("o"), content))
		if stat := lookUp(t, e, "o"); stat.Generation != o.Generation || stat.Size != int64(size) ||
			stat.CRC32C != crc32c.Checksum(content) || stat.ContentType != "text/plain" ||
			!stat.CreateTime.Equal(o.CreateTime) {
			t.Fatalf("%d bytes: finished as %+v, found as %+v", size, o, stat)
		}
		listed, _, err := e.List(t.Context(), "", "", 10)
		if err != nil || len(listed) != 1 || listed[0].Size != int64(size) {
			t.Fatalf("%d bytes: listed %+v, %v", size, listed, err)
		}
		for _, at := range [][2]int{{0, 0}, {size / 2, 0}, {size, 0}, {size / 3, size / 2},
			{size - min(size, 1), 10}} {
			for _, buffer := range []int{10_000, 32 << 10, 200_000} {
				for _, fast := range []bool{true, false} {
					end := size
					if at[1] > 0 {
						end = min(size, at[0]+at[1])
					}
					got, err := Read(t.Context(), e, "o", o.Generation, int64(at[0]), int64(at[1]), buffer, fast)
					if err != nil || !bytes.Equal(got, content[at[0]:end]) {
						t.Fatalf("%d of %d bytes from %d, buffer %d, fast %v: got %d, %v", end-at[0], size, at[0],
							buffer, fast, len(got), err)
					}
				}
			}
		}
		_, err = e.Open(t.Context(), "o", 0, int64(size)+1, 0)
		want(t, "beyond the end", err, engine.ErrOutOfRange)
	}
	_, err := e.Open(t.Context(), "none", 0, 0, 0)
	want(t, "open nothing", err, engine.ErrNotFound)
	_, err = e.Open(t.Context(), "none", 1, 0, 0)
	want(t, "open a generation of nothing", err, engine.ErrGenerationGone)
	_, err = e.Stat(t.Context(), "none")
	want(t, "stat nothing", err, engine.ErrNotFound)
}

// resumes pauses an upload in the middle of a part, and goes on at what another process says is
// committed. Looking it up must not change it.
func resumes(t *testing.T, e engine.Engine, reopen func() engine.Engine) {
	h, content := header("o"), Content(3*PartBytes+1234)
	_, err := e.Upload(t.Context(), h.UploadID)
	want(t, "an upload that never began", err, engine.ErrUploadNotFound)
	u := must[engine.Upload](t, "send")(Send(t.Context(), e, h, content[:PartBytes+70_000], 0))
	committed := must[int64](t, "pause")(u.Pause())
	if committed < 2*PartBytes {
		t.Fatalf("%d bytes are committed", committed)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e = reopen()
		if state := progress(t, e, h.UploadID); state.Committed != committed || state.Object != nil {
			t.Fatalf("the state is %+v, want %d", state, committed)
		}
	}
	u = must[engine.Upload](t, "continue")(Send(t.Context(), e, h, content, committed))
	o := must[engine.Object](t, "finish")(u.Finish(engine.Expect{Size: new(int64(len(content))),
		CRC32C: new(crc32c.Checksum(content))}))
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := Read(t.Context(), e, "o", o.Generation, 0, 0, 1<<20, true)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

// again finishes an upload once more, in the same process and in others, as a sender does whose
// answer was lost: for an object of less than a part, and for one of several.
func again(t *testing.T, e engine.Engine, reopen func() engine.Engine) {
	for _, size := range []int{1000, 200_000} {
		h, content := header(fmt.Sprint(size)), Content(size)
		o := must[engine.Object](t, "put")(Put(t.Context(), e, h, content))
		for range 2 {
			e = reopen()
			u := must[engine.Upload](t, "begin again")(e.Begin(t.Context(), h, false))
			if twice := finishAgain(t, u); twice.Generation != o.Generation {
				t.Fatalf("got %+v, want %+v", twice, o)
			}
			_, err := u.Finish(engine.Expect{Size: new(int64(size + 1))})
			want(t, "finish with another size", err, engine.ErrSizeMismatch)
			_ = u.Close()
			state := progress(t, e, h.UploadID)
			if state.Object == nil || state.Object.Generation != o.Generation {
				t.Fatalf("the state is %+v", state)
			}
			want(t, "cancel", e.Cancel(t.Context(), h.UploadID, AnyName), engine.ErrUploadFinished)
			// A sender that begins at 0 again is either refused or gets the same.
			twice, err := Put(t.Context(), e, h, content)
			if !errors.Is(err, engine.ErrOffsetMismatch) &&
				(err != nil || twice.Generation != o.Generation) {
				t.Fatalf("got %+v, %v", twice, err)
			}
		}
		// Once it is replaced, the upload is still finished, and does not come back.
		other := must[engine.Object](t, "replace")(Put(t.Context(), e, header(h.Name), Content(10)))
		u := must[engine.Upload](t, "begin again")(e.Begin(t.Context(), h, false))
		if twice := finishAgain(t, u); twice.Generation != o.Generation {
			t.Fatalf("got %+v, want %+v", twice, o)
		}
		_ = u.Close()
		if stat := lookUp(t, e, h.Name); stat.Generation != other.Generation {
			t.Fatalf("there is %+v, want %+v", stat, other)
		}
	}
}

// wrongWhole finishes with a size and a checksum that the content does not have.
func wrongWhole(t *testing.T, e engine.Engine, _ func() engine.Engine) {
	for _, size := range []int{1000, 200_000} {
		for what, expect := range map[error]engine.Expect{
			engine.ErrChecksumMismatch: {CRC32C: new(uint32(1))},
			engine.ErrSizeMismatch:     {Size: new(int64(1))},
		} {
			h := header("o")
			u := must[engine.Upload](t, "send")(Send(t.Context(), e, h, Content(size), 0))
			_, err := u.Finish(expect)
			want(t, "finish", err, what)
			if state := u.State(); state.Committed != 0 || state.Object != nil {
				t.Fatalf("the state is %+v", state)
			}
			_ = u.Close()
			_, err = e.Upload(t.Context(), h.UploadID)
			want(t, "state", err, engine.ErrUploadNotFound)
			_, err = e.Stat(t.Context(), "o")
			want(t, "stat", err, engine.ErrNotFound)
		}
	}
}

// damagedChunk sends each chunk with a wrong checksum first. The chunks are longer than a part, so
// that a part that was taken in half would show.
func damagedChunk(t *testing.T, e engine.Engine, _ func() engine.Engine) {
	content, h := Content(3*PartBytes+1000), header("o")
	u := must[engine.Upload](t, "begin")(e.Begin(t.Context(), h, true))
	defer u.Close()
	for chunk := range slices.Chunk(content, 2*PartBytes-77) {
		want(t, "append", u.Append([][]byte{chunk[:5], chunk[5:]}, crc32c.Checksum(chunk)+1),
			engine.ErrChecksumMismatch)
		if err := u.Append([][]byte{chunk[:9], chunk[9:]}, crc32c.Checksum(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	must[engine.Object](t, "finish")(u.Finish(engine.Expect{CRC32C: new(crc32c.Checksum(content))}))
	got, err := Read(t.Context(), e, "o", 0, 0, 0, 10_000, true)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("got %d bytes of %d, %v", len(got), len(content), err)
	}
}

// otherHeader continues an upload under another name.
func otherHeader(t *testing.T, e engine.Engine, reopen func() engine.Engine) {
	h := header("o")
	u := must[engine.Upload](t, "send")(Send(t.Context(), e, h, Content(2*PartBytes), 0))
	if _, err := u.Pause(); err != nil {
		t.Fatal(err)
	}
	_ = u.Close()
	h.Name = "p"
	_, err := reopen().Begin(t.Context(), h, false)
	want(t, "begin", err, engine.ErrUploadMismatch)
}

// gone replaces or deletes an object while it is read. It is long enough that the rest is not in
// memory already.
func gone(t *testing.T, e engine.Engine, _ func() engine.Engine) {
	for what, remove := range map[string]func() error{
		"replaced": func() error { _, err := Put(t.Context(), e, header("o"), Content(10)); return err },
		"deleted":  func() error { return e.Delete(t.Context(), "o", 0) },
	} {
		for _, fast := range []bool{true, false} {
			content := Content(6 * PartBytes)
			o := must[engine.Object](t, "put")(Put(t.Context(), e, header("o"), content))
			r := must[engine.Reader](t, "open")(e.Open(t.Context(), "o", 0, 0, 0))
			p := make([]byte, 10_000)
			if _, _, err := r.Next(p, fast); err != nil {
				t.Fatal(err)
			}
			if err := remove(); err != nil {
				t.Fatal(err)
			}
			var err error
			for err == nil {
				_, _, err = r.Next(p, fast)
			}
			want(t, what, err, engine.ErrGenerationGone)
			_ = r.Close()
			_, err = e.Open(t.Context(), "o", o.Generation, 0, 0)
			want(t, what, err, engine.ErrGenerationGone)
		}
	}
}

// lists has names whose order by bytes is another one than by letters, and prefixes that match
// none.
func lists(t *testing.T, e engine.Engine, _ func() engine.Engine) {
	names := []string{"a", "a/b", "a/c", "b", "ab", "é", "日本語", "z", "a!", "Z"}
	for _, name := range names {
		must[engine.Object](t, "put")(Put(t.Context(), e, header(name), []byte(name)))
	}
	slices.Sort(names)
	for _, prefix := range []string{"", "a", "a/", "q", "日", "z", "\U0010ffff"} {
		var expect, got []string
		for _, name := range names {
			if len(name) >= len(prefix) && name[:len(prefix)] == prefix {
				expect = append(expect, name)
			}
		}
		for after, more := "", true; more; {
			var page []engine.Object
			var err error
			if page, more, err = e.List(t.Context(), prefix, after, 3); err != nil || len(page) > 3 {
				t.Fatalf("%d listed, %v", len(page), err)
			}
			for _, o := range page {
				got, after = append(got, o.Name), o.Name
				if o.Size != int64(len(o.Name)) || time.Since(o.CreateTime) > time.Hour {
					t.Errorf("listed %+v", o)
				}
			}
		}
		if !slices.Equal(got, expect) {
			t.Errorf("%q: listed %q, want %q", prefix, got, expect)
		}
	}
}

// expires has a finished upload and an abandoned one, and moves the time before which they expire.
// The object stays, and the abandoned id can be used again.
func expires(t *testing.T, e engine.Engine, reopen func() engine.Engine) {
	free := func(string) (func(), bool) { return func() {}, true }
	finished, abandoned := header("finished"), header("abandoned")
	content := Content(2 * PartBytes)
	must[engine.Object](t, "put")(Put(t.Context(), e, finished, content))
	u := must[engine.Upload](t, "send")(Send(t.Context(), e, abandoned, content, 0))
	must[int64](t, "pause")(u.Pause())
	_ = u.Close()
	e = reopen()
	if n, err := e.Expire(t.Context(), time.Now().Add(-time.Hour), free); n != 0 || err != nil {
		t.Fatalf("%d expired, %v", n, err)
	}
	busy := func(id string) (func(), bool) { return func() {}, id != abandoned.UploadID }
	if n, err := e.Expire(t.Context(), time.Now().Add(time.Hour), busy); n != 0 || err != nil {
		t.Fatalf("%d expired that is busy, %v", n, err)
	}
	if state := progress(t, e, abandoned.UploadID); state.Committed == 0 {
		t.Fatal("what is busy has gone")
	}
	// It is taken until it is gone.
	held := 0
	take := func(id string) (func(), bool) {
		held++
		return func() {
			held--
			_, err := e.Upload(t.Context(), id)
			want(t, "an upload that is released", err, engine.ErrUploadNotFound)
		}, true
	}
	if n, err := e.Expire(t.Context(), time.Now().Add(time.Hour), take); n != 1 || err != nil {
		t.Fatalf("%d expired, %v", n, err)
	}
	if held != 0 {
		t.Fatalf("%d are not released", held)
	}
	for _, h := range []engine.Header{finished, abandoned} {
		_, err := e.Upload(t.Context(), h.UploadID)
		want(t, "an upload that expired", err, engine.ErrUploadNotFound)
	}
	got, err := Read(t.Context(), e, "finished", 0, 0, 0, 1<<20, true)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("the object has %d bytes, %v", len(got), err)
	}
	must[engine.Object](t, "begin anew")(Put(t.Context(), e, abandoned, content))
}

// AnyName is for Cancel, to permit every name.
func AnyName(string) error { return nil }

// cancels cancels an upload in another process than the one that began it. The id can be used
// again.
func cancels(t *testing.T, e engine.Engine, reopen func() engine.Engine) {
	h := header("o")
	want(t, "cancel nothing", e.Cancel(t.Context(), h.UploadID, AnyName), engine.ErrUploadNotFound)
	u := must[engine.Upload](t, "send")(Send(t.Context(), e, h, Content(2*PartBytes), 0))
	must[int64](t, "pause")(u.Pause())
	_ = u.Close()
	e = reopen()
	if state := progress(t, e, h.UploadID); state.Name != h.Name {
		t.Errorf("the name is %q", state.Name)
	}
	denied := errors.New("denied")
	err := e.Cancel(t.Context(), h.UploadID, func(name string) error {
		if name != h.Name {
			t.Errorf("permission is asked for the name %q", name)
		}
		return denied
	})
	want(t, "cancel without permission", err, denied)
	if state := progress(t, e, h.UploadID); state.Committed != 2*PartBytes {
		t.Errorf("%d bytes are left", state.Committed)
	}
	if err := e.Cancel(t.Context(), h.UploadID, AnyName); err != nil {
		t.Fatal(err)
	}
	want(t, "cancel again", e.Cancel(t.Context(), h.UploadID, AnyName), engine.ErrUploadNotFound)
	must[engine.Object](t, "put")(Put(t.Context(), e, h, Content(10)))
}

// sha has a SHA-256 announced or named in the header, and the upload continued in another process
// in the middle of the content.
func sha(t *testing.T, e engine.Engine, reopen func() engine.Engine) {
	content := Content(3*PartBytes + 99)
	sum := sha256.Sum256(content)
	for what, h := range map[string]engine.Header{
		"announced":     {UploadID: ID(), Name: "o", HashSHA256: true},
		"in the header": {UploadID: ID(), Name: "o", Expect: engine.Expect{SHA256: sum[:]}},
	} {
		u := must[engine.Upload](t, what)(Send(t.Context(), e, h, content[:2*PartBytes+10], 0))
		committed := must[int64](t, "pause")(u.Pause())
		_ = u.Close()
		e = reopen()
		u = must[engine.Upload](t, what)(Send(t.Context(), e, h, content, committed))
		o := must[engine.Object](t, what)(u.Finish(engine.Expect{SHA256: sum[:]}))
		if !bytes.Equal(o.SHA256, sum[:]) {
			t.Errorf("%s: got %x", what, o.SHA256)
		}
		_ = u.Close()
	}
	h := engine.Header{UploadID: ID(), Name: "p", HashSHA256: true}
	u := must[engine.Upload](t, "send")(Send(t.Context(), e, h, content, 0))
	_, err := u.Finish(engine.Expect{SHA256: make([]byte, 32)})
	want(t, "a wrong SHA-256", err, engine.ErrChecksumMismatch)
	_ = u.Close()
}

// deletes deletes with another generation than the object's, with its own, and again.
func deletes(t *testing.T, e engine.Engine, _ func() engine.Engine) {
	o := must[engine.Object](t, "put")(Put(t.Context(), e, header("o"), Content(10)))
	want(t, "another generation", e.Delete(t.Context(), "o", o.Generation+1), engine.ErrGenerationGone)
	if err := e.Delete(t.Context(), "o", o.Generation); err != nil {
		t.Fatal(err)
	}
	want(t, "again", e.Delete(t.Context(), "o", 0), engine.ErrNotFound)
}
