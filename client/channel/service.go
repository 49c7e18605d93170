package channel

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/traffic"
)

// descriptor is that of the service in the contract, from which the host takes methods and their
// retry policy.
var descriptor = quartetv1.File_quartet_v1_channel_proto.Services().ByName("ChannelService")

// Service is what the command line has of ChannelService.
func Service() cli.Service {
	cfg := &Config{}
	return cli.Service{
		Name:        "channel",
		Descriptors: []protoreflect.ServiceDescriptor{descriptor},
		Config:      cfg,
		Commands:    func(c *cli.Terminal) []*cobra.Command { return []*cobra.Command{chatCommand(c)} },
		Check:       check,
		Traffic:     func(s cli.Connection) traffic.Source { return cfg.traffic(s) },
		Demo:        demo,
		Panel:       newPanel,
		IsDamage:    isDamage,
	}
}

// connect makes the client of a connection.
func connect(s cli.Connection) *Client {
	return NewClient(s.Conn, Options{Resumption: s.Resumption, Telemetry: s.Telemetry})
}

// check is this service's part of `client check`: it sends a message to a channel of its own, which
// no other client uses, and receives it.
func check(s cli.Connection) []cli.Step {
	client, name := connect(s), "check "+uuid.NewString()
	return []cli.Step{{Method: "Exchange", Do: func(ctx context.Context) error {
		conversation, err := client.Join(ctx, JoinOptions{Channel: name, Participant: "check"})
		if err != nil {
			return err
		}
		defer conversation.Close()
		sent := make(chan error, 1)
		go func() {
			_, err := conversation.Send(ctx, []byte(name))
			sent <- err
		}()
		message, err := conversation.Receive(ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(message.GetBody(), []byte(name)) {
			return fmt.Errorf("%w: %q in place of %q", traffic.ErrWrong, message.GetBody(), name)
		}
		return <-sent
	}}}
}

// demo is this service's part of the demo: a conversation in which each participant answers what it
// has received, so that it takes both to get to the end.
func demo(ctx context.Context, s cli.Connection, _ string, show cli.Show) error {
	client, name := connect(s), "demo "+uuid.NewString()
	participants := []string{"alice", "bob"}
	conversations := make([]*Conversation, len(participants))
	for i, participant := range participants {
		var err error
		if conversations[i], err = client.Join(ctx,
			JoinOptions{Channel: name, Participant: participant}); err != nil {
			return err
		}
		defer conversations[i].Close()
	}
	for i, line := range []string{"Has the file arrived?", "All of it.", "Then we are done."} {
		sent := make(chan error, 1)
		go func() {
			_, err := conversations[i%2].Send(ctx, []byte(line))
			sent <- err
		}()
		for j, conversation := range conversations {
			message, err := conversation.Receive(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", participants[j], err)
			}
			if string(message.GetBody()) != line {
				return fmt.Errorf("%s received %q, waiting for %q", participants[j], message.GetBody(), line)
			}
		}
		if err := <-sent; err != nil {
			return err
		}
		show("talk", "%s: %s", participants[i%2], line)
	}
	// Leaving ends with OK once everything was received, which ErrLeft says.
	for _, conversation := range conversations {
		conversation.Leave()
		if _, err := conversation.Receive(ctx); !errors.Is(err, ErrLeft) {
			return fmt.Errorf("leave: %w", err)
		}
	}
	return nil
}
