package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"example.com/quartet/server/object/engine"
)

// What S3 answers that is no failure of the service. The first four are for callers in this
// package, and in no table of status codes.
var (
	errNoKey    = errors.New("no such key")
	errNoUpload = errors.New("no such multipart upload")
	errChanged  = errors.New("the condition does not hold")
	// errParts means that parts are not those that were to be put together.
	errParts = errors.New("the parts have changed")
	// errSlow is the cause of a context whose time for a request is over.
	errSlow = fmt.Errorf("%w: no answer in time", engine.ErrUnavailable)
)

// explain says what an error of an S3 request means here. The cause of ctx comes first, because the
// SDK cannot tell a caller that has gone from a service that does not answer. What is none of these
// is a failure, which a client gets as INTERNAL.
func explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	for _, meaning := range []struct {
		applies bool
		is      error
	}{
		{errorCode(err) == "NoSuchKey", errNoKey},
		{errorCode(err) == "NoSuchUpload", errNoUpload},
		{slices.Contains([]string{"BadDigest", "InvalidPart", "InvalidPartOrder"}, errorCode(err)),
			errParts},
		{errorCode(err) == "PreconditionFailed", errChanged},
		{errorCode(err) == "ConditionalRequestConflict", errChanged},
		{errorCode(err) == "QuotaExceeded", engine.ErrStoreFull},
		{statusCode(err) == http.StatusInsufficientStorage, engine.ErrStoreFull},
		{isTransient(err), engine.ErrUnavailable},
	} {
		if meaning.applies {
			return fmt.Errorf("%w: %w", meaning.is, err)
		}
	}
	return err
}

// isTransient tells whether the service could not be reached, broke off, or said that it is busy.
// The SDK has tried several times by then. What the service refuses for any other reason it will
// refuse again.
func isTransient(err error) bool {
	switch statusCode(err) {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	var unsent *smithyhttp.RequestSendError
	var network net.Error
	return errors.As(err, &unsent) || errors.As(err, &network) ||
		errors.Is(err, io.ErrUnexpectedEOF) ||
		errorCode(err) == "RequestTimeout"
}

// errorCode is what S3 calls the error; empty if the error is none of its answers.
func errorCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// statusCode is that of the HTTP answer; 0 if there was none.
func statusCode(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
