package echo

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/traffic"
)

var descriptor = quartetv1.File_quartet_v1_echo_proto.Services().ByName("EchoService")

// Service is what the command line has of EchoService.
func Service() cli.Service {
	cfg := &Config{}
	return cli.Service{
		Name:        "echo",
		Descriptors: []protoreflect.ServiceDescriptor{descriptor},
		Config:      cfg,
		Commands: func(c *cli.Terminal) []*cobra.Command {
			return []*cobra.Command{echoCommand(c), expandCommand(c), collectCommand(c), converseCommand(c)}
		},
		Check:   check,
		Traffic: func(s cli.Connection) traffic.Source { return cfg.traffic(s) },
		Demo:    demo,
	}
}

// connect makes the client of a connection.
func connect(s cli.Connection) *Client {
	return NewClient(s.Conn, Options{Resumption: s.Resumption, Telemetry: s.Telemetry})
}

// verified are calls of the four modes whose answers are compared with the text. The steady traffic
// makes them again and again.
type verified struct{ client *Client }

const (
	sample = "the quick brown fox jumps over the lazy dog"
	words  = 9
)

func (v verified) echo(ctx context.Context) error {
	got, err := v.client.Echo(ctx, sample)
	return compare(got, err)
}

func (v verified) expand(ctx context.Context) error {
	var got []string
	err := v.client.Expand(ctx, sample, func(word string) error {
		got = append(got, word)
		return nil
	})
	return compare(strings.Join(got, " "), err)
}

func (v verified) collect(ctx context.Context) error {
	got, err := v.client.Collect(ctx, strings.Split(sample, " "))
	return compare(got, err)
}

func (v verified) chat(ctx context.Context) error {
	texts := make(chan string, words)
	for word := range strings.SplitSeq(sample, " ") {
		texts <- word
	}
	close(texts)
	var got []string
	err := v.client.Chat(ctx, texts, func(text string) error {
		got = append(got, text)
		return nil
	})
	return compare(strings.Join(got, " "), err)
}

func compare(got string, err error) error {
	if err == nil && got != sample {
		return fmt.Errorf("%w: %q in place of %q", traffic.ErrWrong, got, sample)
	}
	return err
}

func check(s cli.Connection) []cli.Step {
	v := verified{connect(s)}
	return []cli.Step{
		{Method: "Echo", Do: v.echo},
		{Method: "Expand", Do: v.expand},
		{Method: "Collect", Do: v.collect},
		{Method: "Chat", Do: v.chat},
	}
}

func demo(ctx context.Context, s cli.Connection, _ string, show cli.Show) error {
	for _, step := range check(s) {
		if err := step.Do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.Method, err)
		}
		show(strings.ToLower(step.Method), "the text came back as it was sent")
	}
	return nil
}
