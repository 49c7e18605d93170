package object

import (
	"io"
	"testing"

	"example.com/quartet/internal/transfer"
)

// Both go through real files; B/op shows that no part is held in memory.

func BenchmarkUpload(b *testing.B) {
	s := openBench(b)
	chunk := randomBytes(b, 64<<10)
	crc := transfer.Checksum(chunk)
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		uploadChunks(b, s, chunk, crc)
	}
}

func BenchmarkDownload(b *testing.B) {
	s := openBench(b)
	chunk := randomBytes(b, 64<<10)
	uploadChunks(b, s, chunk, transfer.Checksum(chunk))
	buffer := make([]byte, 64<<10)
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		r, err := s.OpenReader(b.Context(), "n", 0, 0, 0)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buffer); err != nil {
			b.Fatal(err)
		}
		_ = r.Close()
	}
}

func openBench(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.Context(), "file://"+b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeStore(b, s) })
	return s
}

func uploadChunks(b *testing.B, s *Store, chunk []byte, crc uint32) {
	b.Helper()
	w, err := s.OpenWriter(b.Context(), Header{UploadID: newID(), Name: "n"})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	for offset := int64(0); offset < 64<<20; offset += int64(len(chunk)) {
		if err := w.WriteChunk(offset, chunk, crc); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.Finish(Expect{}); err != nil {
		b.Fatal(err)
	}
}
