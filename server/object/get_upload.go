package object

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/object/engine"
)

// GetUpload (unary) tells how far an upload is. Every call asks the engine, as the stream that
// sends the upload may be in another process.
func (s *service) GetUpload(
	ctx context.Context, r *quartetv1.GetUploadRequest,
) (*quartetv1.GetUploadResponse, error) {
	if err := engine.CheckUploadID(r.GetUploadId()); err != nil {
		return nil, err
	}
	upload, err := s.engine.Upload(ctx, r.GetUploadId())
	if err != nil {
		return nil, s.metrics.saw(err)
	}
	// Only the engine knows the name. That there is an upload is told to a caller that knows its id,
	// which is random, but nothing about it.
	if err := permit(ctx, upload.Name); err != nil {
		return nil, err
	}
	response := quartetv1.GetUploadResponse_builder{
		CommittedSizeBytes: uint64(upload.Committed),
	}.Build()
	// Set only when the upload is finished, from which a sender knows that it need not send anything
	// more.
	if upload.Object != nil {
		response.SetObject(protoObject(*upload.Object))
	}
	return response, nil
}
