package object

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// GetObject (unary) looks an object up.
func (s *service) GetObject(ctx context.Context, r *quartetv1.GetObjectRequest) (*quartetv1.GetObjectResponse, error) {
	found, err := s.store.Get(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	return quartetv1.GetObjectResponse_builder{Object: protoObject(found)}.Build(), nil
}
