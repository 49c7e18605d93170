package main

import (
	"context"
	"errors"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/object"
)

// DeleteObject removes an object.
func (s *objectService) DeleteObject(ctx context.Context, r *quartetv1.DeleteObjectRequest) (*quartetv1.DeleteObjectResponse, error) {
	err := s.store.Delete(ctx, r.GetName(), r.GetGeneration())
	if err != nil && !(r.GetAllowMissing() && errors.Is(err, object.ErrNotFound)) {
		return nil, err
	}
	return &quartetv1.DeleteObjectResponse{}, nil
}
