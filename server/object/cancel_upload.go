package object

import (
	"context"
	"errors"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/engine"
)

// CancelUpload (unary) removes an unfinished upload. A stream of this process that sends it is
// ended first, by taking its lease; one of another process finds the upload gone.
func (s *service) CancelUpload(
	ctx context.Context, r *quartetv1.CancelUploadRequest,
) (*quartetv1.CancelUploadResponse, error) {
	if err := engine.CheckUploadID(r.GetUploadId()); err != nil {
		return nil, err
	}
	// The name is known where the upload is: of a stream before that is ended, and of what is stored
	// before that is removed.
	permitted := func(name string) error { return permit(ctx, name) }
	// The stream that has the lease ends with WRITER_REPLACED, and is waited for.
	lease, err := s.lease(ctx, r.GetUploadId(), permitted)
	if err != nil {
		return nil, err
	}
	defer lease.release()
	// What is gone, now or before, no longer counts against its caller's limit.
	if err = s.engine.Cancel(ctx, r.GetUploadId(), permitted); err == nil ||
		errors.Is(err, engine.ErrUploadNotFound) {
		s.limits.ended(r.GetUploadId())
	}
	if err != nil && !(r.GetAllowMissing() && errors.Is(err, engine.ErrUploadNotFound)) {
		return nil, s.metrics.saw(err)
	}
	if err != nil {
		rpc.UseNoName(ctx) // Nothing is there that has one.
	}
	return &quartetv1.CancelUploadResponse{}, nil
}
