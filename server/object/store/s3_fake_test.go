package store

import (
	"net/http/httptest"
	"testing"

	"example.com/quartet/server/object/store/s3test"
)

// fakeS3 is an S3 service in this process. versitygw takes its place where it is installed.
type fakeS3 struct {
	*s3test.Fake
	*httptest.Server
}

func newFakeS3(t testing.TB) fakeS3 {
	t.Helper()
	fake := s3test.New()
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	return fakeS3{fake, server}
}

func (f fakeS3) url() string { return s3test.URL(f.Listener.Addr().String(), s3test.Bucket) }
