package object

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
)

// FuzzPageTokens asks a server for lists: whatever prefix, size and token are, the answer is
// INVALID_ARGUMENT or the page of names with the prefix behind the token's, with a token exactly if
// there are more.
func FuzzPageTokens(f *testing.F) {
	f.Add("", int32(0), "")
	f.Add("n", int32(2), "bjE") // n1
	f.Add("n", int32(2), "YQ")  // a, which has not the prefix
	f.Add("", int32(-1), "")
	f.Add("", int32(1<<30), "bjE=")
	f.Add("é", int32(1), "_w") // not UTF-8
	f.Add("n1\x00", int32(1), "bjEA")
	f.Add(strings.Repeat("n", 200), int32(1), strings.Repeat("bm5u", 60))
	ts := startServer(f, f.TempDir())
	names := []string{"a", "é"}
	for i := range 10 {
		names = append(names, fmt.Sprintf("n%d", i))
	}
	slices.Sort(names)
	for _, name := range names {
		ts.upload(f, name, []byte(name))
	}
	f.Fuzz(func(t *testing.T, prefix string, size int32, token string) {
		if !utf8.ValidString(prefix) || !utf8.ValidString(token) {
			return // No client can send it.
		}
		page, err := ts.objects.ListObjects(apptest.Deadline(t), quartetv1.ListObjectsRequest_builder{
			Prefix: prefix, PageSize: size, PageToken: token,
		}.Build())
		if err != nil {
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("prefix %q, size %d, token %q: %v", prefix, size, token, err)
			}
			return
		}
		after, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			t.Errorf("the token %q was accepted", token)
		}
		want := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return !strings.HasPrefix(name, prefix) || name <= string(after)
		})
		most := min(int(cmp.Or(size, defaultPageSize)), len(want))
		next := ""
		if most < len(want) {
			next = base64.RawURLEncoding.EncodeToString([]byte(want[most-1]))
		}
		got := []string{}
		for _, o := range page.GetObjects() {
			got = append(got, o.GetName())
		}
		if !slices.Equal(got, want[:most]) || page.GetNextPageToken() != next {
			t.Errorf("prefix %q, size %d, token %q: got %q and the token %q, want %q and %q",
				prefix, size, token, got, page.GetNextPageToken(), want[:most], next)
		}
	})
}
