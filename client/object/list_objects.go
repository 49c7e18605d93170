package object

import (
	"context"
	"iter"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// pageSize is the most objects that the server has in a page.
const pageSize = 1000

// List goes through all objects whose names begin with prefix, in the byte order of their names.
// Pages are fetched as they are needed; an error is the last thing it yields.
func (c *Client) List(ctx context.Context, prefix string) iter.Seq2[*quartetv1.Object, error] {
	return func(yield func(*quartetv1.Object, error) bool) {
		for token := ""; ; {
			page, err := c.objects.ListObjects(ctx, quartetv1.ListObjectsRequest_builder{
				Prefix: prefix, PageSize: pageSize, PageToken: token,
			}.Build())
			if err != nil {
				yield(nil, err)
				return
			}
			for _, o := range page.GetObjects() {
				if !yield(o, nil) {
					return
				}
			}
			// A page without objects need not be the last one; the token says so.
			if token = page.GetNextPageToken(); token == "" {
				return
			}
		}
	}
}
