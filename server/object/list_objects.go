package object

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// ListObjects (unary) lists a page of objects.
func (s *service) ListObjects(ctx context.Context, r *quartetv1.ListObjectsRequest) (*quartetv1.ListObjectsResponse, error) {
	found, next, err := s.store.List(ctx, r.GetPrefix(), int(r.GetPageSize()), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	page := make([]*quartetv1.Object, len(found))
	for i, o := range found {
		page[i] = protoObject(o)
	}
	return quartetv1.ListObjectsResponse_builder{Objects: page, NextPageToken: next}.Build(), nil
}
