package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// narrow is a client that takes 8 KiB of headers, as many do. grpc-go ends the stream of one that
// is sent more.
func narrow(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithMaxHeaderListSize(8<<10))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// longTexts are more than such a client takes, in letters and in bytes that are encoded with three
// or nine.
var longTexts = map[string]string{
	"letters":         strings.Repeat("x", 12<<10),
	"umlauts":         strings.Repeat("ü", 6<<10),
	"not UTF-8":       strings.Repeat("\xff", 12<<10),
	"partly UTF-8":    strings.Repeat("\xffx", 6<<10),
	"short not UTF-8": "\xff",
}

func TestUnknownMethodsWithUnfitNamesAreAnswered(t *testing.T) {
	r := defaults().start(t, succeed)
	conn := narrow(t, r.address)
	for name, text := range longTexts {
		for _, method := range []string{"/x/" + text, "/" + text + "/x", "/" + text,
			"/grpc.testing.TestService/" + text} {
			st := status.Convert(conn.Invoke(testContext(t), method, &grpc_testing.Empty{},
				&grpc_testing.Empty{}))
			if st.Code() != codes.Unimplemented || !strings.HasPrefix(st.Message(), "unknown method /") ||
				!utf8.ValidString(st.Message()) || len(st.Message()) > 80 {
				t.Errorf("%s, method %.10q: %v %.100q", name, method, st.Code(), st.Message())
			}
		}
	}
}

// TestUnfitTextsOfErrorsReachTheClient expects that a text which a caller chose costs neither the
// answer nor its details.
func TestUnfitTextsOfErrorsReachTheClient(t *testing.T) {
	text := ""
	s := defaults()
	s.errs = ErrorTable{
		Rules: []ErrorRule{{Is: errMissing, Code: codes.NotFound, Reason: "MISSING"}},
		Metadata: func(error) map[string]string {
			return map[string]string{"name": text[:min(len(text), 100)]}
		},
	}
	fail := func() error { return nil }
	r := s.start(t, func(context.Context) error { return fail() })
	stub := grpc_testing.NewTestServiceClient(narrow(t, r.address))
	for name := range longTexts {
		text = longTexts[name]
		for kind, test := range map[string]struct {
			fail   func() error
			code   codes.Code
			reason string
		}{
			"rule": {func() error { return fmt.Errorf("%s: %w", text, errMissing) }, codes.NotFound,
				"MISSING"},
			"status": {func() error { return status.Error(codes.NotFound, text) }, codes.NotFound, ""},
			"retry": {func() error { return RetryAfter(codes.Unavailable, text, "BUSY", 0) },
				codes.Unavailable, "BUSY"},
			"panic": {func() error { panic(text) }, codes.Internal, ""},
			"error": {func() error { return errors.New(text) }, codes.Internal, ""},
		} {
			fail = test.fail
			for _, mode := range modes {
				st := status.Convert(mode.call(testContext(t), stub, 1))
				if st.Code() != test.code || errorInfo(st).GetReason() != test.reason {
					t.Errorf("%s, %s, %s: %v with %v, %.100q", name, kind, mode.name, st.Code(), errorInfo(st),
						st.Message())
				}
			}
		}
	}
}
