package object

import (
	"errors"
	"strconv"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/store"
)

// errEmptyChunk is what a peer can do wrong that the store never sees.
var errEmptyChunk = errors.New("chunk without data")

// errorTable is the one place where errors of the store become status codes. Whatever is not here reaches a client as
// INTERNAL with a fixed text, and the log with its own.
var errorTable = rpc.ErrorTable{
	Rules: append(rpc.StreamRules, []rpc.ErrorRule{
		{Is: errEmptyChunk, Code: codes.InvalidArgument, Reason: "EMPTY_CHUNK"},
		{Is: store.ErrInvalidName, Code: codes.InvalidArgument, Reason: "INVALID_NAME"},
		{Is: store.ErrInvalidUploadID, Code: codes.InvalidArgument, Reason: "INVALID_UPLOAD_ID"},
		{Is: store.ErrInvalidContentType, Code: codes.InvalidArgument, Reason: "INVALID_CONTENT_TYPE"},
		{Is: store.ErrInvalidArgument, Code: codes.InvalidArgument, Reason: "INVALID_ARGUMENT"},
		{Is: store.ErrChecksumMismatch, Code: codes.InvalidArgument, Reason: "CHECKSUM_MISMATCH"},
		{Is: store.ErrSizeMismatch, Code: codes.InvalidArgument, Reason: "SIZE_MISMATCH"},
		{Is: store.ErrUploadMismatch, Code: codes.InvalidArgument, Reason: "UPLOAD_MISMATCH"},
		{Is: store.ErrUnavailable, Code: codes.Unavailable, Reason: "STORE_UNAVAILABLE", Hide: true},
		{Is: store.ErrNotFound, Code: codes.NotFound, Reason: "OBJECT_NOT_FOUND"},
		{Is: store.ErrUploadNotFound, Code: codes.NotFound, Reason: "UPLOAD_NOT_FOUND"},
		{Is: store.ErrGenerationGone, Code: codes.Aborted, Reason: "GENERATION_GONE"},
		{Is: store.ErrWriterReplaced, Code: codes.Aborted, Reason: "WRITER_REPLACED"},
		{Is: store.ErrOutOfRange, Code: codes.OutOfRange, Reason: "OUT_OF_RANGE"},
		{Is: store.ErrOffsetMismatch, Code: codes.OutOfRange, Reason: "OFFSET_MISMATCH"},
		{Is: store.ErrTooLarge, Code: codes.ResourceExhausted, Reason: "OBJECT_TOO_LARGE"},
		{Is: store.ErrQuotaExceeded, Code: codes.ResourceExhausted, Reason: "QUOTA_EXCEEDED"},
		{Is: store.ErrStoreFull, Code: codes.ResourceExhausted, Reason: "STORE_FULL", Hide: true},
		{Is: store.ErrCorrupt, Code: codes.DataLoss, Reason: "CORRUPT", Hide: true},
	}...),
	Metadata: errorMetadata,
}

// errorMetadata has the numbers that a program needs to recover from an error, under the names that the contract
// promises.
func errorMetadata(err error) map[string]string {
	if offset, ok := errors.AsType[*store.OffsetError](err); ok {
		return map[string]string{"committed_size_bytes": strconv.FormatInt(offset.Committed, 10)}
	}
	if outside, ok := errors.AsType[*store.RangeError](err); ok {
		return map[string]string{"size_bytes": strconv.FormatInt(outside.Size, 10)}
	}
	return nil
}
