package object

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/server/object/engine"
)

const (
	// These are the numbers that the .proto promises for page_size.
	defaultPageSize = 100
	maxPageSize     = 1000
)

// ListObjects (unary) lists a page of objects. A page token is the last name of the page before, so
// that any replica can continue, and objects that come and go between two pages do not shift the
// others. It is encoded so that callers build none by hand.
func (s *service) ListObjects(
	ctx context.Context, r *quartetv1.ListObjectsRequest,
) (*quartetv1.ListObjectsResponse, error) {
	// All that a list can show begins with its prefix. A page token does as well, see below.
	if err := rpc.PermitPrefix(ctx, nameKind, r.GetPrefix()); err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(r.GetPageToken())
	switch {
	case r.GetPageSize() < 0:
		return nil, fmt.Errorf("%w: page size %d", engine.ErrInvalidArgument, r.GetPageSize())
	// A token of another list would leave out objects, or repeat some.
	case err != nil, len(after) > 0 && engine.CheckName(string(after)) != nil,
		len(after) > 0 && !strings.HasPrefix(string(after), r.GetPrefix()):
		return nil, fmt.Errorf("%w: page token is not from a list with this prefix",
			engine.ErrInvalidArgument)
	case len(r.GetPrefix()) > 0 && engine.CheckName(r.GetPrefix()) != nil:
		return &quartetv1.ListObjectsResponse{}, nil // No name begins with that.
	}
	size := int(r.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	// After the arguments were checked: a call that is refused takes no turn.
	release, err := s.limits.list(ctx)
	if err != nil {
		return nil, err
	}
	// release is told the number that is known when the call ends.
	names := 0
	defer func() { release(names) }()
	found, more, err := s.engine.List(ctx, r.GetPrefix(), string(after), min(size, maxPageSize))
	names = len(found)
	if err != nil {
		return nil, err
	}
	response := &quartetv1.ListObjectsResponse{}
	page := make([]*quartetv1.Object, len(found))
	for i, o := range found {
		page[i] = protoObject(o)
	}
	response.SetObjects(page)
	// Without a token the page is the last one.
	if more && len(found) > 0 {
		response.SetNextPageToken(base64.RawURLEncoding.EncodeToString([]byte(found[len(found)-1].Name)))
	}
	return response, nil
}
