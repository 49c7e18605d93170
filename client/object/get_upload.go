package object

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// GetUpload tells how far an upload is. One that the server does not know is at 0, and no error: a
// sender begins it there.
func (c *Client) GetUpload(ctx context.Context, id string) (*quartetv1.GetUploadResponse, error) {
	response, err := c.objects.GetUpload(ctx, quartetv1.GetUploadRequest_builder{UploadId: id}.Build())
	if status.Code(err) == codes.NotFound {
		return &quartetv1.GetUploadResponse{}, nil
	}
	return response, err
}
