package object

import (
	"errors"
	"strconv"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/engine"
)

// errEmptyChunk refuses a chunk that moves nothing: a sender of those could hold its place for
// ever.
var errEmptyChunk = errors.New("chunk without data")

// errorTable is the one place where errors of an engine become status codes, those that the
// comments in the .proto promise. Whatever is not here reaches a client as INTERNAL with a fixed
// text, and the log with its own. Hide keeps the text from clients as well, since that of a store
// may have paths and addresses in it.
var errorTable = rpc.ErrorTable{
	Rules: append(rpc.StreamRules, []rpc.ErrorRule{
		{Is: errTooManyUploads, Code: codes.ResourceExhausted, Reason: "TOO_MANY_UPLOADS"},
		{Is: errEmptyChunk, Code: codes.InvalidArgument, Reason: "EMPTY_CHUNK"},
		{Is: engine.ErrInvalidName, Code: codes.InvalidArgument, Reason: "INVALID_NAME"},
		{Is: engine.ErrInvalidUploadID, Code: codes.InvalidArgument, Reason: "INVALID_UPLOAD_ID"},
		{Is: engine.ErrInvalidContentType, Code: codes.InvalidArgument, Reason: "INVALID_CONTENT_TYPE"},
		{Is: engine.ErrInvalidArgument, Code: codes.InvalidArgument, Reason: "INVALID_ARGUMENT"},
		{Is: engine.ErrChecksumMismatch, Code: codes.InvalidArgument, Reason: "CHECKSUM_MISMATCH"},
		{Is: engine.ErrSizeMismatch, Code: codes.InvalidArgument, Reason: "SIZE_MISMATCH"},
		{Is: engine.ErrUploadMismatch, Code: codes.InvalidArgument, Reason: "UPLOAD_MISMATCH"},
		{Is: engine.ErrUnavailable, Code: codes.Unavailable, Reason: "STORE_UNAVAILABLE", Hide: true},
		{Is: engine.ErrNotFound, Code: codes.NotFound, Reason: "OBJECT_NOT_FOUND"},
		{Is: engine.ErrUploadFinished, Code: codes.FailedPrecondition, Reason: "UPLOAD_FINISHED"},
		{Is: engine.ErrUploadNotFound, Code: codes.NotFound, Reason: "UPLOAD_NOT_FOUND"},
		{Is: engine.ErrGenerationGone, Code: codes.Aborted, Reason: "GENERATION_GONE"},
		{Is: engine.ErrWriterReplaced, Code: codes.Aborted, Reason: "WRITER_REPLACED"},
		{Is: engine.ErrOutOfRange, Code: codes.OutOfRange, Reason: "OUT_OF_RANGE"},
		{Is: engine.ErrOffsetMismatch, Code: codes.OutOfRange, Reason: "OFFSET_MISMATCH"},
		{Is: engine.ErrTooLarge, Code: codes.ResourceExhausted, Reason: "OBJECT_TOO_LARGE"},
		{Is: engine.ErrQuotaExceeded, Code: codes.ResourceExhausted, Reason: "QUOTA_EXCEEDED"},
		{Is: engine.ErrStoreFull, Code: codes.ResourceExhausted, Reason: "STORE_FULL", Hide: true},
		{Is: engine.ErrCorrupt, Code: codes.DataLoss, Reason: "CORRUPT", Hide: true},
	}...),
	Metadata: errorMetadata,
}

// errorMetadata has the numbers that a program needs to recover from an error, under the names that
// the contract promises.
func errorMetadata(err error) map[string]string {
	if offset, ok := errors.AsType[*engine.OffsetError](err); ok {
		return map[string]string{"committed_size_bytes": strconv.FormatInt(offset.Committed, 10)}
	}
	if outside, ok := errors.AsType[*engine.RangeError](err); ok {
		return map[string]string{"size_bytes": strconv.FormatInt(outside.Size, 10)}
	}
	return nil
}
