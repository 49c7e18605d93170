package object

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// CancelOptions say more about the cancelling of an upload.
type CancelOptions struct {
	// AllowMissing makes it no error that there is no such upload, which is also how a repeated
	// call finds it.
	AllowMissing bool
}

// CancelUpload removes an upload that is not finished, and what the server has of it.
func (c *Client) CancelUpload(ctx context.Context, id string, options CancelOptions) error {
	_, err := c.objects.CancelUpload(ctx, quartetv1.CancelUploadRequest_builder{
		UploadId:     id,
		AllowMissing: options.AllowMissing,
	}.Build())
	return err
}
