package object

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// FuzzUploadAddress reads the address of an upload, which any browser may make up: what is accepted
// names an upload and can be sent to the server.
func FuzzUploadAddress(f *testing.F) {
	const key = "123e4567-e89b-12d3-a456-426614174000"
	for _, described := range []string{
		"eyJuIjoiYSIsInMiOjF9",             // {"n":"a","s":1}
		"eyJuIjoiYSIsInMiOi0xfQ",           // {"n":"a","s":-1}
		"eyJuIjoiXHVkODAwIiwicyI6MX0",      // {"n":"\ud800","s":1}
		"eyJuIjoiYSIsInQiOiJcdTAwMDAifQ",   // {"n":"a","t":"\u0000"}
		"eyJuIjoiYSIsImMiOjQyOTQ5NjcyOTZ9", // {"n":"a","c":4294967296}
		"bnVsbA", "", "!",
	} {
		f.Add(key + "." + described)
		f.Add(strings.ToUpper(key) + "." + described)
	}
	f.Add("urn:uuid:" + key + ".eyJuIjoiYSIsInMiOjF9")
	f.Add("../" + key)
	f.Fuzz(func(t *testing.T, id string) {
		got, err := new(tusStore).GetUpload(t.Context(), id)
		if err != nil {
			return
		}
		header := got.(*tusUpload).header()
		if len(header.GetUploadId()) != len(uuid.Nil.String()) || header.GetName() == "" ||
			int64(header.GetSizeBytes()) < 0 {
			t.Errorf("%q is %v", id, header)
		}
		if _, err := proto.Marshal(header); err != nil {
			t.Errorf("%q is %v, which cannot be sent: %v", id, header, err)
		}
	})
}

// FuzzContentHeaders reads headers of requests for a content: digests have their size, and a range
// is within the object.
func FuzzContentHeaders(f *testing.F) {
	f.Add("crc32c=:AAAAAA==:", "bytes=0-9")
	f.Add("sha-256=:AAAA:", "bytes=9-0")
	f.Add("crc32c=:AAAAAA==:,md5=:x:", "bytes=0-999999999999999999")
	f.Add("crc32c", "bytes=1-")
	f.Add(",=,crc32c=::", "bytes=0-1,2-3")
	f.Fuzz(func(t *testing.T, digest, span string) {
		d, err := parseDigests(http.Header{"Repr-Digest": {digest}})
		if err == nil && d.sha256 != nil && len(d.sha256) != sha256.Size {
			t.Errorf("%q has a digest of %d bytes", digest, len(d.sha256))
		}
		c := contentReader{object: quartetv1.Object_builder{SizeBytes: 10}.Build()}
		c.hint(span)
		if c.from < 0 || c.limit < 0 || c.from+c.limit < 0 {
			t.Errorf("%q begins at %d and has %d bytes", span, c.from, c.limit)
		}
	})
}
