package echo

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/echo/text"
)

// Echo (unary) returns the text.
func (s *service) Echo(_ context.Context, r *quartetv1.EchoRequest) (*quartetv1.EchoResponse, error) {
	if err := text.Check(r.GetText()); err != nil {
		return nil, err
	}
	return quartetv1.EchoResponse_builder{Text: r.GetText()}.Build(), nil
}
