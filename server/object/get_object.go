package object

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/object/engine"
)

// GetObject (unary) looks an object up. It reads the trailer and no content.
func (s *service) GetObject(
	ctx context.Context, r *quartetv1.GetObjectRequest,
) (*quartetv1.GetObjectResponse, error) {
	if err := engine.CheckName(r.GetName()); err != nil {
		return nil, err
	}
	if err := permit(ctx, r.GetName()); err != nil {
		return nil, err
	}
	// A damaged trailer is DATA_LOSS, which saw counts.
	found, err := s.engine.Stat(ctx, r.GetName())
	if err != nil {
		return nil, s.metrics.saw(err)
	}
	return quartetv1.GetObjectResponse_builder{Object: protoObject(found)}.Build(), nil
}
