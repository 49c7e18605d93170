package object

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// CancelUpload removes an upload that is not finished, and what the server has of it. One that it
// does not have, or no longer, is no error.
func (c *Client) CancelUpload(ctx context.Context, id string) error {
	request := quartetv1.CancelUploadRequest_builder{UploadId: id, AllowMissing: true}.Build()
	_, err := c.objects.CancelUpload(ctx, request)
	return err
}
