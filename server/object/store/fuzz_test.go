package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"example.com/quartet/internal/crc32c"
)

// FuzzUpload drives uploads of one name with a program of bytes, and compares the store with a model that is
// nothing but what must be committed.
func FuzzUpload(f *testing.F) {
	f.Add([]byte{0, 10, 1, 200, 1, 250, 4, 0, 0, 10, 1, 99, 6, 0})
	f.Add([]byte{0, 0, 1, 255, 1, 255, 5, 0, 0, 0, 1, 1, 3, 0, 2, 7, 6, 0, 6, 0})
	f.Add([]byte{0, 0, 7, 0, 1, 50, 4, 0, 8, 0, 0, 0, 6, 1, 0, 0, 1, 5, 6, 0, 9, 0})
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		program := make([]byte, 60)
		for i := range program {
			program[i] = byte(random.Uint32())
		}
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 400 {
			return
		}
		m := &model{t: t, bucket: memBucket(), id: newID()}
		m.stores = [2]*Store{openSmall(m.bucket), openSmall(m.bucket)}
		for ; len(program) >= 2; program = program[2:] {
			m.step(program[0], int(program[1]))
			m.check()
		}
		m.close()
		m.check()
	})
}

const fuzzPart = 64

func openSmall(b bucket) *Store { return newStore(b, Options{PartSize: fuzzPart}) }

// model is what a sender knows: the bytes it sent to the current writer, and how many of them must be committed.
type model struct {
	t      *testing.T
	bucket bucket
	stores [2]*Store // two replicas
	at     int       // the replica with the writer
	id     string
	writer *Writer

	sent      []byte
	committed int64
	finished  *Object
	content   []byte // of the object, nil if there is none
}

func (m *model) header() Header { return Header{UploadID: m.id, Name: "n"} }

func (m *model) step(operation byte, argument int) {
	switch operation % 10 {
	case 0:
		m.open(argument % 2)
	case 1:
		m.write(argument)
	case 2:
		m.writeElsewhere(argument)
	case 3:
		m.writeWrong(argument)
	case 4:
		m.pause()
	case 5:
		m.close()
	case 6:
		m.finish(argument)
	case 7:
		m.die()
	case 8:
		m.mismatch()
	case 9: // Another upload of the same name.
		m.close()
		m.id, m.sent, m.committed, m.finished = newID(), nil, 0, nil
	}
}

// die ends the replica that has the writer, and with it what was not committed.
func (m *model) die() {
	if m.writer != nil {
		m.writer.cancel()
		if m.writer.begun != nil {
			m.writer.drop()
		}
		m.writer = nil
	}
	m.stores[m.at] = openSmall(m.bucket)
	m.sent = m.sent[:m.committed]
}

// open takes the upload over, on the same replica or the other.
func (m *model) open(replica int) {
	m.close()
	w, err := m.stores[replica].OpenWriter(m.t.Context(), m.header())
	if err != nil {
		m.t.Fatal(err)
	}
	m.writer, m.at = w, replica
	if w.Committed() != m.committed {
		m.t.Fatalf("Committed = %d, want %d", w.Committed(), m.committed)
	}
}

func (m *model) write(n int) {
	if m.writer == nil {
		return
	}
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(len(m.sent) + i*7)
	}
	err := m.writer.WriteChunk(int64(len(m.sent)), crc32c.Checksum(data), data)
	if m.finished != nil {
		wantOffset(m.t, err, m.committed)
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.sent = append(m.sent, data...)
	// Parts are full in relation to where this writer began.
	for m.committed+fuzzPart <= int64(len(m.sent)) {
		m.committed += fuzzPart
	}
}

func (m *model) writeElsewhere(argument int) {
	offset := int64(argument) * 3
	if m.writer == nil || offset == int64(len(m.sent)) {
		return
	}
	err := m.writer.WriteChunk(offset, crc32c.Checksum([]byte("x")), []byte("x"))
	m.committed = int64(len(m.sent))
	wantOffset(m.t, err, m.committed)
}

func (m *model) writeWrong(n int) {
	if m.writer == nil || m.finished != nil {
		return
	}
	data := make([]byte, n)
	err := m.writer.WriteChunk(int64(len(m.sent)), crc32c.Checksum(data)+1, data)
	wantError(m.t, err, ErrChecksumMismatch)
}

func (m *model) pause() {
	if m.writer == nil {
		return
	}
	m.committed = int64(len(m.sent))
	if got, err := m.writer.Pause(); err != nil || got != m.committed {
		m.t.Fatalf("Pause = %d, %v, want %d", got, err, m.committed)
	}
}

func (m *model) close() {
	if m.writer == nil {
		return
	}
	if err := m.writer.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.writer = nil
	if int64(len(m.sent))-m.committed >= fuzzPart/8 {
		m.committed = int64(len(m.sent))
	}
	m.sent = m.sent[:m.committed]
}

func (m *model) finish(argument int) {
	if m.writer == nil {
		return
	}
	e := Expect{Size: ptr(int64(len(m.sent))), CRC32C: ptr(crc32c.Checksum(m.sent))}
	if argument%2 == 1 {
		e.SHA256 = sum(m.sent)
	}
	object, err := m.writer.Finish(e)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.finished != nil && !sameObject(object, *m.finished) {
		m.t.Fatalf("Finish = %+v, and before %+v", object, *m.finished)
	}
	if m.finished == nil {
		m.content = append([]byte{}, m.sent...)
	}
	m.finished, m.committed = &object, int64(len(m.sent))
}

func (m *model) mismatch() {
	if m.writer == nil {
		return
	}
	_, err := m.writer.Finish(Expect{CRC32C: ptr(crc32c.Checksum(m.sent) + 1)})
	wantError(m.t, err, ErrChecksumMismatch)
	_ = m.writer.Close()
	m.writer = nil
	if m.finished == nil {
		m.sent, m.committed = nil, 0
		_, err := m.stores[1].GetUpload(m.t.Context(), m.id)
		wantError(m.t, err, ErrUploadNotFound)
	}
}

// check compares both replicas with the model.
func (m *model) check() {
	if m.writer != nil {
		if err := m.writer.settle(0); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, s := range m.stores {
		u, err := s.GetUpload(m.t.Context(), m.id)
		if m.committed == 0 && errors.Is(err, ErrUploadNotFound) {
			continue
		}
		if err != nil || u.Committed != m.committed || (u.Object != nil) != (m.finished != nil) {
			m.t.Fatalf("GetUpload = %+v, %v, want %d, finished %v", u, err, m.committed, m.finished)
		}
	}
	if m.content == nil {
		wantAbsent(m.t, m.stores[0], "n")
		return
	}
	if got := download(m.t, m.stores[1], "n"); !bytes.Equal(got, m.content) {
		m.t.Fatalf("the object has %d bytes, want the %d that were finished last", len(got), len(m.content))
	}
}
