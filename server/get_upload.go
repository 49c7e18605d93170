package main

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// GetUpload tells how far an upload is.
func (s *objectService) GetUpload(ctx context.Context, r *quartetv1.GetUploadRequest) (*quartetv1.GetUploadResponse, error) {
	upload, err := s.store.GetUpload(ctx, r.GetUploadId())
	if err != nil {
		return nil, err
	}
	response := quartetv1.GetUploadResponse_builder{CommittedSizeBytes: uint64(upload.Committed)}.Build()
	if upload.Object != nil {
		response.SetObject(protoObject(*upload.Object))
	}
	return response, nil
}
