package object

import (
	"context"
	"errors"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/object/engine"
)

// DeleteObject (unary) removes an object. Downloads of it that are under way end with
// GENERATION_GONE.
func (s *service) DeleteObject(
	ctx context.Context, r *quartetv1.DeleteObjectRequest,
) (*quartetv1.DeleteObjectResponse, error) {
	if err := engine.CheckName(r.GetName()); err != nil {
		return nil, err
	}
	if err := permit(ctx, r.GetName()); err != nil {
		return nil, err
	}
	err := s.engine.Delete(ctx, r.GetName(), r.GetGeneration())
	// With allow_missing a call can be repeated after its answer was lost.
	if err != nil && !(r.GetAllowMissing() && errors.Is(err, engine.ErrNotFound)) {
		return nil, s.metrics.saw(err)
	}
	return &quartetv1.DeleteObjectResponse{}, nil
}
