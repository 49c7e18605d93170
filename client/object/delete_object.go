package object

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// DeleteOptions narrow a deletion.
type DeleteOptions struct {
	// Generation is the only one to delete; 0 for whichever is there.
	Generation int64
	// AllowMissing makes it no error that there is no such object, which is also how a repeated
	// deletion finds it.
	AllowMissing bool
}

// Delete removes an object. The call may be repeated after a lost answer, and then finds it gone.
func (c *Client) Delete(ctx context.Context, name string, options DeleteOptions) error {
	_, err := c.objects.DeleteObject(ctx, quartetv1.DeleteObjectRequest_builder{
		Name:         name,
		Generation:   options.Generation,
		AllowMissing: options.AllowMissing,
	}.Build())
	return err
}
