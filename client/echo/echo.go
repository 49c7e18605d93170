package echo

import (
	"context"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// Echo (unary) returns the text as the server received it. Its deadline and its retries are those
// that rpc.NewClient computes from the contract.
func (c *Client) Echo(ctx context.Context, text string) (string, error) {
	response, err := c.echo.Echo(ctx, quartetv1.EchoRequest_builder{Text: text}.Build())
	if err != nil {
		return "", err
	}
	return response.GetText(), nil
}
