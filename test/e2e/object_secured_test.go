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
		Callers: []string{"jwt:" + tokentest.Name + "#reader"},
		Methods: []string{"quartet.v1.ObjectService/GetObject", "quartet.v1.ObjectService/ListObjects", "quartet.v1.ObjectService/DownloadObject"},
	}
	writers = permission{
		Callers: []string{"jwt:" + tokentest.Name + "#writer"},
		Methods: []string{"quartet.v1.ObjectService/GetUpload", "quartet.v1.ObjectService/UploadObject"},
	}
)

// readsAndWritesApart has the owner of each token do what the other one may not.
func readsAndWritesApart(t *testing.T, s *secured) {
	s.permit(t, readers, writers)
	eventually(t, "permission to write", permissionTime, func(context.Context) error {
		_, err := s.withToken(t, "writer", "upload", "-", "letter")
		return err
	})
	if text, err := s.withToken(t, "reader", "download", "letter", "-"); err != nil || !strings.Contains(text, "dear reader") {
		t.Errorf("reader: %v, %q", err, text)
	}
	s.wantDenied(t, "writer", "download", "letter", "-")
	s.wantDenied(t, "reader", "upload", "-", "letter")
	s.wantDenied(t, "reader", "delete", "letter")
}

// usesItsNamesOnly has a caller that may do everything below one prefix try others.
func usesItsNamesOnly(t *testing.T, s *secured) {
	s.permit(t, permission{
		Callers: []string{"jwt:" + tokentest.Name + "#shop"}, Methods: []string{"quartet.v1.ObjectService/*"},
		Names: map[string][]string{"object": {"shop/*"}},
	})
	eventually(t, "permission to write", permissionTime, func(context.Context) error {
		_, err := s.withToken(t, "shop", "upload", "-", "shop/letter")
		return err
	})
	for want, args := range map[string][]string{
		"dear reader": {"download", "shop/letter", "-"}, "shop/letter": {"list", "shop/"},
	} {
		if text, err := s.withToken(t, "shop", args...); err != nil || !strings.Contains(text, want) {
			t.Errorf("%v: %v, %q", args, err, text)
		}
	}
	s.wantDenied(t, "shop", "upload", "-", "shopping/letter")
	s.wantDenied(t, "shop", "download", "letter", "-")
	s.wantDenied(t, "shop", "delete", "nothing")
	s.wantDenied(t, "shop", "list")
}

// withToken has the command line call with the token of a subject.
func (s *secured) withToken(t *testing.T, subject string, args ...string) (string, error) {
	t.Helper()
	args = append([]string{"--server", s.address, "--timeout", "20s"}, args...)
	out, err := tryWith(t.Context(), s.bearing(t, s.issuer.Token(t, subject)), "dear reader", s.program, args...)
	return out.stdout + out.stderr, err
}

func (s *secured) wantDenied(t *testing.T, subject string, args ...string) {
	t.Helper()
	if out, err := s.withToken(t, subject, args...); err == nil || !strings.Contains(out, "NOT_PERMITTED") {
		t.Errorf("%s, %v: %v, %s", subject, args, err, out)
	}
}
