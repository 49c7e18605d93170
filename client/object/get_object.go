package object

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// Get looks an object up, without its content. An object that is not there is an error with the
// status NOT_FOUND.
func (c *Client) Get(ctx context.Context, name string) (*quartetv1.Object, error) {
	response, err := c.objects.GetObject(ctx, quartetv1.GetObjectRequest_builder{Name: name}.Build())
	if err != nil {
		return nil, err
	}
	return response.GetObject(), nil
}
