package e2e

import (
	"context"
	"strings"
	"testing"

	"example.com/quartet/internal/token/tokentest"
)

// readers may call what changes nothing, and writers only what stores objects.
var (
	readers = permission{
		[]string{"jwt:" + tokentest.Name + "#reader"},
		[]string{"quartet.v1.ObjectService/GetObject", "quartet.v1.ObjectService/ListObjects", "quartet.v1.ObjectService/DownloadObject"},
	}
	writers = permission{
		[]string{"jwt:" + tokentest.Name + "#writer"},
		[]string{"quartet.v1.ObjectService/GetUpload", "quartet.v1.ObjectService/UploadObject"},
	}
)

// readsAndWritesApart has the owner of each token do what the other one may not.
func readsAndWritesApart(t *testing.T, s *secured) {
	s.permit(t, readers, writers)
	call := func(subject string, args ...string) (string, error) {
		args = append([]string{"--server", s.address, "--timeout", "20s"}, args...)
		out, err := tryWith(t.Context(), s.bearing(t, s.issuer.Token(t, subject)), "dear reader", s.program, args...)
		return out.stdout + out.stderr, err
	}
	wantDenied := func(subject string, args ...string) {
		if out, err := call(subject, args...); err == nil || !strings.Contains(out, "NOT_PERMITTED") {
			t.Errorf("%s, %v: %v, %s", subject, args, err, out)
		}
	}
	eventually(t, "permission to write", withdrawalTime, func(context.Context) error {
		_, err := call("writer", "upload", "-", "letter")
		return err
	})
	if text, err := call("reader", "download", "letter", "-"); err != nil || !strings.Contains(text, "dear reader") {
		t.Errorf("reader: %v, %q", err, text)
	}
	wantDenied("writer", "download", "letter", "-")
	wantDenied("reader", "upload", "-", "letter")
	wantDenied("reader", "delete", "letter")
}
