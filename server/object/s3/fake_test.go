package s3

import (
	"log/slog"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"example.com/quartet/server/object/engine"
	"example.com/quartet/server/object/s3/s3test"
)

func TestMain(m *testing.M) {
	for name, value := range credentials {
		os.Setenv(name, value)
	}
	startProxy()
	m.Run()
}

var credentials = map[string]string{
	"AWS_ACCESS_KEY_ID": "quartet", "AWS_SECRET_ACCESS_KEY": "a-secret-for-tests",
	"AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
	"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	"AWS_EC2_METADATA_DISABLED": "true",
}

// smallPart makes a few hundred kilobytes an object of many parts.
const smallPart = 64 << 10

func newFake(t testing.TB) (*s3test.Fake, string) {
	t.Helper()
	fake := s3test.New()
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	return fake, s3test.URL(server.Listener.Addr().String(), s3test.Bucket)
}

func open(t testing.TB, url string, partBytes int64) *S3 {
	t.Helper()
	s, err := Open(t.Context(), url, Options{PartBytes: partBytes, SpareParts: 2,
		Quota: &engine.Quota{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	// The SDK waits between its attempts, which tests have no use for.
	s.client = awss3.New(s.client.Options(), func(o *awss3.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
	})
	t.Cleanup(func() { _ = s.Close() })
	return s
}
