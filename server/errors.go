package main

import (
	"errors"
	"strconv"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/channel"
	"example.com/quartet/server/object"
)

// What a peer can do wrong that the domain never sees.
var (
	errMessageOrder = errors.New("message out of order")
	errEmptyChunk   = errors.New("chunk without data")
	errIdle         = errors.New("no message for too long")
)

// errorTable is the one place where errors of the domain become status codes. Whatever is not here reaches a client
// as INTERNAL with a fixed text, and the log with its own.
var errorTable = rpc.ErrorTable{
	Domain: "quartet",
	Rules: []rpc.ErrorRule{
		{Is: errMessageOrder, Code: codes.InvalidArgument, Reason: "MESSAGE_ORDER"},
		{Is: errEmptyChunk, Code: codes.InvalidArgument, Reason: "EMPTY_CHUNK"},
		{Is: errIdle, Code: codes.DeadlineExceeded, Reason: "IDLE"},

		{Is: object.ErrInvalidName, Code: codes.InvalidArgument, Reason: "INVALID_NAME"},
		{Is: object.ErrInvalidUploadID, Code: codes.InvalidArgument, Reason: "INVALID_UPLOAD_ID"},
		{Is: object.ErrInvalidContentType, Code: codes.InvalidArgument, Reason: "INVALID_CONTENT_TYPE"},
		{Is: object.ErrInvalidArgument, Code: codes.InvalidArgument, Reason: "INVALID_ARGUMENT"},
		{Is: object.ErrChecksumMismatch, Code: codes.InvalidArgument, Reason: "CHECKSUM_MISMATCH"},
		{Is: object.ErrSizeMismatch, Code: codes.InvalidArgument, Reason: "SIZE_MISMATCH"},
		{Is: object.ErrUploadMismatch, Code: codes.InvalidArgument, Reason: "UPLOAD_MISMATCH"},
		{Is: object.ErrUnavailable, Code: codes.Unavailable, Reason: "STORE_UNAVAILABLE", Hide: true},
		{Is: object.ErrNotFound, Code: codes.NotFound, Reason: "OBJECT_NOT_FOUND"},
		{Is: object.ErrUploadNotFound, Code: codes.NotFound, Reason: "UPLOAD_NOT_FOUND"},
		{Is: object.ErrGenerationGone, Code: codes.Aborted, Reason: "GENERATION_GONE"},
		{Is: object.ErrWriterReplaced, Code: codes.Aborted, Reason: "WRITER_REPLACED"},
		{Is: object.ErrOutOfRange, Code: codes.OutOfRange, Reason: "OUT_OF_RANGE"},
		{Is: object.ErrOffsetMismatch, Code: codes.OutOfRange, Reason: "OFFSET_MISMATCH"},
		{Is: object.ErrTooLarge, Code: codes.ResourceExhausted, Reason: "OBJECT_TOO_LARGE"},
		{Is: object.ErrQuotaExceeded, Code: codes.ResourceExhausted, Reason: "QUOTA_EXCEEDED"},
		{Is: object.ErrStoreFull, Code: codes.ResourceExhausted, Reason: "STORE_FULL", Hide: true},
		{Is: object.ErrCorrupt, Code: codes.DataLoss, Reason: "CORRUPT", Hide: true},

		{Is: channel.ErrInvalidName, Code: codes.InvalidArgument, Reason: "INVALID_NAME"},
		{Is: channel.ErrInvalidMessageID, Code: codes.InvalidArgument, Reason: "INVALID_MESSAGE_ID"},
		{Is: channel.ErrBodyTooLarge, Code: codes.InvalidArgument, Reason: "BODY_TOO_LARGE"},
		{Is: channel.ErrSequenceGone, Code: codes.OutOfRange, Reason: "SEQUENCE_GONE"},
		{Is: channel.ErrTooManyChannels, Code: codes.ResourceExhausted, Reason: "TOO_MANY_CHANNELS"},
		{Is: channel.ErrUnavailable, Code: codes.Unavailable, Reason: "BROKER_UNAVAILABLE", Hide: true},
		{Is: channel.ErrClosed, Code: codes.Unavailable, Reason: "STOPPING"},
	},
	Metadata: errorMetadata,
}

// errorMetadata has the numbers that a program needs to recover from an error, under the names that the contract
// promises.
func errorMetadata(err error) map[string]string {
	var offset *object.OffsetError
	if errors.As(err, &offset) {
		return map[string]string{"committed_size_bytes": strconv.FormatInt(offset.Committed, 10)}
	}
	var outside *object.RangeError
	if errors.As(err, &outside) {
		return map[string]string{"size_bytes": strconv.FormatInt(outside.Size, 10)}
	}
	return nil
}
