package scaffold

// Each text has a template for each mode. The messages that they begin with have one text, which
// comes back, so that both programs, check and the steady traffic work from the first minute on.

// protoMethods are the RPC in the contract, to be indented as it stands in its service.
const protoMethods = `
{{define "unary"}}  // {{.Name}} (unary) returns the text.
  rpc {{.Name}}({{.Name}}Request) returns ({{.Name}}Response);
{{end}}
{{define "server"}}  // {{.Name}} (server streaming) returns the text.
  //
  // Order of replies: one; the stream ends with OK after it.
  rpc {{.Name}}({{.Name}}Request) returns (stream {{.Name}}Response);
{{end}}
{{define "client"}}  // {{.Name}} (client streaming) returns the last text.
  //
  // Order of requests: any number of texts, then half-close.
  rpc {{.Name}}(stream {{.Name}}Request) returns ({{.Name}}Response);
{{end}}
{{define "bidi"}}  // {{.Name}} (bidirectional) returns each text as it comes.
  //
  // Order of replies: one for each request, in the same order. After half-close the stream ends with OK.
  rpc {{.Name}}(stream {{.Name}}Request) returns (stream {{.Name}}Response);
{{end}}`

// protoMessages are its two messages. Each RPC has its own, so that they can change apart.
const protoMessages = `
// {{.Name}}Request is a text.
message {{.Name}}Request {
  // The text.
  string text = 1;
}

// {{.Name}}Response is a text.
message {{.Name}}Response {
  // The text.
  string text = 1;
}
`

// serverFiles are the method of the server, one file per RPC. Streams that wait for their client
// also look at the drain, so that the server can stop.
const serverFiles = `
{{define "unary"}}package {{.Package}}

import (
	"context"

	{{.V1}} "{{.Import}}"
)

// {{.Name}} (unary) returns the text.
func (s *{{.Receiver}}) {{.Name}}(_ context.Context, r *{{.V1}}.{{.Name}}Request) (*{{.V1}}.{{.Name}}Response, error) {
	return {{.V1}}.{{.Name}}Response_builder{Text: r.GetText()}.Build(), nil
}
{{end}}
{{define "server"}}package {{.Package}}

import (
	"google.golang.org/grpc"

	{{.V1}} "{{.Import}}"
)

// {{.Name}} (server streaming) returns the text. A stream that lasts also looks at s.{{.Draining}}, and ends with rpc.Stopping.
func (s *{{.Receiver}}) {{.Name}}(r *{{.V1}}.{{.Name}}Request, stream grpc.ServerStreamingServer[{{.V1}}.{{.Name}}Response]) error {
	return stream.Send({{.V1}}.{{.Name}}Response_builder{Text: r.GetText()}.Build())
}
{{end}}
{{define "client"}}package {{.Package}}

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	{{.V1}} "{{.Import}}"
	"{{.Module}}/internal/rpc"
)

// {{.Name}} (client streaming) returns the last text. It waits for the next request, for the drain, and for the end of the call at
// the same time.
func (s *{{.Receiver}}) {{.Name}}(stream grpc.ClientStreamingServer[{{.V1}}.{{.Name}}Request, {{.V1}}.{{.Name}}Response]) error {
	last := ""
	requests := rpc.Receive(stream.Context(), stream.Recv)
	for {
		select {
		case r := <-requests:
			if errors.Is(r.Err, io.EOF) {
				return stream.SendAndClose({{.V1}}.{{.Name}}Response_builder{Text: last}.Build())
			}
			if r.Err != nil {
				return r.Err
			}
			last = r.Message.GetText()
		case <-s.{{.Draining}}:
			return rpc.Stopping("the server is stopping; another one takes the stream")
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
{{end}}
{{define "bidi"}}package {{.Package}}

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	{{.V1}} "{{.Import}}"
	"{{.Module}}/internal/rpc"
)

// {{.Name}} (bidirectional) returns each text as it comes. It waits for the next request, for the drain, and for the end of the
// call at the same time.
func (s *{{.Receiver}}) {{.Name}}(stream grpc.BidiStreamingServer[{{.V1}}.{{.Name}}Request, {{.V1}}.{{.Name}}Response]) error {
	requests := rpc.Receive(stream.Context(), stream.Recv)
	for {
		select {
		case r := <-requests:
			if errors.Is(r.Err, io.EOF) {
				return nil
			}
			if r.Err != nil {
				return r.Err
			}
			if err := stream.Send({{.V1}}.{{.Name}}Response_builder{Text: r.Message.GetText()}.Build()); err != nil {
				return err
			}
		case <-s.{{.Draining}}:
			return rpc.Stopping("the server is stopping; another one continues the stream")
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}
{{end}}`

// testHead begins each test of a server, and testTail ends it. It fails on purpose until the author
// writes what the RPC promises.
const testHead = `package {{.Package}}

import (
	"testing"

	{{.V1}} "{{.Import}}"
	"{{.Module}}/internal/app"
	"{{.Module}}/internal/app/apptest"
	"{{.Module}}/internal/telemetry"
)

// Test{{.Name}} fails until it says what {{.Name}} promises.
func Test{{.Name}}(t *testing.T) {
	s := apptest.Start(t, telemetry.Discard(), []app.Service{Service()})
	client := {{.V1}}.New{{.Service}}ServiceClient(s.Conn)
	request := {{.V1}}.{{.Name}}Request_builder{Text: "a text"}.Build()
`

const testTail = `	t.Errorf("{{.Name}} answers %q: say here what it has to answer, and see it fail; then write it", got.GetText())
}
{{end}}`

// serverTests call the RPC over a real connection, as a client without retries does.
const serverTests = `
{{define "unary"}}` + testHead + `	got, err := client.{{.Name}}(apptest.Deadline(t), request)
	if err != nil {
		t.Fatal(err)
	}
` + testTail + `
{{define "server"}}` + testHead + `	stream, err := client.{{.Name}}(apptest.Deadline(t), request)
	if err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
` + testTail + `
{{define "client"}}` + testHead + `	stream, err := client.{{.Name}}(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	got, err := stream.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
` + testTail + `
{{define "bidi"}}` + testHead + `	stream, err := client.{{.Name}}(apptest.Deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
` + testTail

// verifyHead and verifyTail stand around a call of the client whose answer is compared.
const verifyHead = `
// verify{{.Name}} makes a call whose answer is known, for check and the steady traffic.
func verify{{.Name}}(s cli.Connection) func(ctx context.Context) error {
	client := connect(s)
	return func(ctx context.Context) error {
		const text = "a text"
		request := {{.V1}}.{{.Name}}Request_builder{Text: text}.Build()
`

const verifyTail = `		if err == nil && got != text {
			err = fmt.Errorf("%w: %q in place of %q", traffic.ErrWrong, got, text)
		}
		return err
	}
}
{{end}}`

// clientFiles are the method of the client, and the call that check and the steady traffic make.
const clientFiles = `
{{define "unary"}}package {{.Package}}

import (
	"context"
	"fmt"

	{{.V1}} "{{.Import}}"
	"{{.Module}}/internal/cli"
	"{{.Module}}/internal/traffic"
)

// {{.Name}} (unary) returns the text. gRPC repeats the call only if the contract gives it an idempotency_level.
func (c *Client) {{.Name}}(ctx context.Context, request *{{.V1}}.{{.Name}}Request) (*{{.V1}}.{{.Name}}Response, error) {
	return c.{{.Field}}.{{.Name}}(ctx, request)
}
` + verifyHead + `		response, err := client.{{.Name}}(ctx, request)
		got := response.GetText()
` + verifyTail + `
{{define "server"}}package {{.Package}}

import (
	"context"
	"errors"
	"fmt"
	"io"

	{{.V1}} "{{.Import}}"
	"{{.Module}}/internal/cli"
	"{{.Module}}/internal/traffic"
)

// {{.Name}} (server streaming) calls each with every reply, whose error ends it. A stream that breaks is not resumed:
// rpc.Resumption does that, once the contract says where to go on.
func (c *Client) {{.Name}}(ctx context.Context, request *{{.V1}}.{{.Name}}Request, each func(*{{.V1}}.{{.Name}}Response) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.{{.Field}}.{{.Name}}(ctx, request)
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(response); err != nil {
			return err
		}
	}
}
` + verifyHead + `		got := ""
		err := client.{{.Name}}(ctx, request, func(r *{{.V1}}.{{.Name}}Response) error {
			got += r.GetText()
			return nil
		})
` + verifyTail + `
{{define "client"}}package {{.Package}}

import (
	"context"
	"errors"
	"fmt"
	"io"

	{{.V1}} "{{.Import}}"
	"{{.Module}}/internal/cli"
	"{{.Module}}/internal/traffic"
)

// {{.Name}} (client streaming) sends the requests. A stream that breaks is not resumed: rpc.Resumption does that, once the contract
// says where to go on.
func (c *Client) {{.Name}}(ctx context.Context, requests ...*{{.V1}}.{{.Name}}Request) (*{{.V1}}.{{.Name}}Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.{{.Field}}.{{.Name}}(ctx)
	if err != nil {
		return nil, err
	}
	for _, request := range requests {
		err := stream.Send(request)
		if errors.Is(err, io.EOF) {
			break // The server has ended the stream, and CloseAndRecv says why.
		}
		if err != nil {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}
` + verifyHead + `		response, err := client.{{.Name}}(ctx, request)
		got := response.GetText()
` + verifyTail + `
{{define "bidi"}}package {{.Package}}

import (
	"context"
	"errors"
	"fmt"
	"io"

	{{.V1}} "{{.Import}}"
	"{{.Module}}/internal/cli"
	"{{.Module}}/internal/traffic"
)

// {{.Name}} (bidirectional) sends the requests and calls each with every reply as it comes, whose error ends it. A stream that
// breaks is not resumed: rpc.Resumption does that, once the contract says where to go on.
func (c *Client) {{.Name}}(ctx context.Context, requests []*{{.V1}}.{{.Name}}Request, each func(*{{.V1}}.{{.Name}}Response) error) error {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.{{.Field}}.{{.Name}}(ctx)
	if err != nil {
		cancel()
		return err
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for _, request := range requests {
			if stream.Send(request) != nil {
				return // Recv says why.
			}
		}
		_ = stream.CloseSend() // It never fails.
	}()
	defer func() { cancel(); <-sent }()
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(response); err != nil {
			return err
		}
	}
}
` + verifyHead + `		got := ""
		err := client.{{.Name}}(ctx, []*{{.V1}}.{{.Name}}Request{request}, func(r *{{.V1}}.{{.Name}}Response) error {
			got += r.GetText()
			return nil
		})
` + verifyTail

// fakeComment is the comment of each method of the fake.
const fakeComment = `// {{.Name}} answers as the contract says.
`

// clientTests are the method of the server that the client's tests have in place of a real one.
const clientTests = `
{{define "unary"}}package {{.Package}}

import (
	"context"

	{{.V1}} "{{.Import}}"
)

` + fakeComment + `func (f *{{.Receiver}}) {{.Name}}(_ context.Context, r *{{.V1}}.{{.Name}}Request) (*{{.V1}}.{{.Name}}Response, error) {
	return {{.V1}}.{{.Name}}Response_builder{Text: r.GetText()}.Build(), nil
}
{{end}}
{{define "server"}}package {{.Package}}

import (
	"google.golang.org/grpc"

	{{.V1}} "{{.Import}}"
)

` + fakeComment + `func (f *{{.Receiver}}) {{.Name}}(r *{{.V1}}.{{.Name}}Request, s grpc.ServerStreamingServer[{{.V1}}.{{.Name}}Response]) error {
	return s.Send({{.V1}}.{{.Name}}Response_builder{Text: r.GetText()}.Build())
}
{{end}}
{{define "client"}}package {{.Package}}

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	{{.V1}} "{{.Import}}"
)

` + fakeComment + `func (f *{{.Receiver}}) {{.Name}}(s grpc.ClientStreamingServer[{{.V1}}.{{.Name}}Request, {{.V1}}.{{.Name}}Response]) error {
	last := ""
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose({{.V1}}.{{.Name}}Response_builder{Text: last}.Build())
		}
		if err != nil {
			return err
		}
		last = r.GetText()
	}
}
{{end}}
{{define "bidi"}}package {{.Package}}

import (
	"errors"
	"io"

	"google.golang.org/grpc"

	{{.V1}} "{{.Import}}"
)

` + fakeComment + `func (f *{{.Receiver}}) {{.Name}}(s grpc.BidiStreamingServer[{{.V1}}.{{.Name}}Request, {{.V1}}.{{.Name}}Response]) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send({{.V1}}.{{.Name}}Response_builder{Text: r.GetText()}.Build()); err != nil {
			return err
		}
	}
}
{{end}}`
