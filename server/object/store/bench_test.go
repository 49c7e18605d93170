package store

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"example.com/quartet/internal/crc32c"
)

const benchObject = 64 << 20

// Both go through real files. B/op shows that no part is held in memory on a folder, and that on S3 a part's buffer serves
// for all parts of an upload. Beside S3 there is what the SDK does without any of this package.

func BenchmarkUpload(b *testing.B) {
	chunk := randomBytes(b, 64<<10)
	crc := crc32c.Checksum(chunk)
	benchEngines(b, func(b *testing.B, s *Store) {
		for b.Loop() {
			uploadChunks(b, s, chunk, crc)
		}
	})
	b.Run("plain S3", func(b *testing.B) {
		bucket := openBench(b, startGateway(b).url()).bucket.(*s3Bucket)
		part := randomBytes(b, defaultPartSize)
		benchObjects(b)
		for b.Loop() {
			for range benchObject / defaultPartSize {
				in := &s3.PutObjectInput{Bucket: &bucket.name, Key: aws.String("n"), Body: bytes.NewReader(part)}
				if _, err := bucket.client.PutObject(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkDownload(b *testing.B) {
	chunk, buffer := randomBytes(b, 64<<10), make([]byte, 64<<10)
	crc := crc32c.Checksum(chunk)
	benchEngines(b, func(b *testing.B, s *Store) {
		uploadChunks(b, s, chunk, crc)
		for b.Loop() {
			r, err := s.OpenReader(b.Context(), "n", 0, 0, 0)
			drain(b, r, err, buffer)
		}
	})
	b.Run("plain S3", func(b *testing.B) {
		bucket := openBench(b, startGateway(b).url()).bucket.(*s3Bucket)
		if err := bucket.put(b.Context(), "n", randomBytes(b, defaultPartSize)); err != nil {
			b.Fatal(err)
		}
		benchObjects(b)
		for b.Loop() {
			for range benchObject / defaultPartSize {
				body, err := getPlain(b.Context(), bucket)
				drain(b, body, err, buffer)
			}
		}
	})
}

func getPlain(ctx context.Context, bucket *s3Bucket) (io.ReadCloser, error) {
	out, err := bucket.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket.name, Key: aws.String("n")})
	if err != nil {
		return nil, err
	}
	return out.Body, nil
}

func drain(b *testing.B, r io.ReadCloser, err error, buffer []byte) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buffer); err != nil {
		b.Fatal(err)
	}
	_ = r.Close()
}

func benchEngines(b *testing.B, bench func(b *testing.B, s *Store)) {
	b.Run("file", func(b *testing.B) {
		s := openBench(b, "file://"+b.TempDir())
		benchObjects(b)
		bench(b, s)
	})
	b.Run("versitygw", func(b *testing.B) {
		s := openBench(b, startGateway(b).url())
		benchObjects(b)
		bench(b, s)
	})
}

func benchObjects(b *testing.B) {
	b.SetBytes(benchObject)
	b.ReportAllocs()
}

func openBench(b *testing.B, url string) *Store {
	b.Helper()
	setCredentials(b, testAccessKey, testSecretKey)
	s, err := Open(b.Context(), url, Options{})
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
	for offset := int64(0); offset < benchObject; offset += int64(len(chunk)) {
		if err := w.WriteChunk(offset, crc, chunk); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.Finish(Expect{}); err != nil {
		b.Fatal(err)
	}
}
