package object

import (
	"context"
	"errors"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/object/store"
)

// DeleteObject (unary) removes an store.
func (s *service) DeleteObject(ctx context.Context, r *quartetv1.DeleteObjectRequest) (*quartetv1.DeleteObjectResponse, error) {
	err := s.store.Delete(ctx, r.GetName(), r.GetGeneration())
	if err != nil && !(r.GetAllowMissing() && errors.Is(err, store.ErrNotFound)) {
		return nil, err
	}
	return &quartetv1.DeleteObjectResponse{}, nil
}
