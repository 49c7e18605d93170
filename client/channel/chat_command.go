package channel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/user"
	"sync"

	"github.com/spf13/cobra"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
)

// maxBody is the most that a message may say, by the contract.
const maxBody = 64 << 10

func chatCommand(console *cli.Console) *cobra.Command {
	c := &chat{Console: console, own: map[string]int{}}
	cmd := &cobra.Command{
		Use:   "chat CHANNEL",
		Short: "Talk in a channel",
		Long: `Joins a channel over one bidirectional stream, Exchange. Each line of standard input is said there, and whatever
is said there is shown. When the stream breaks, the conversation goes on without a gap or a double.

The end of standard input (Ctrl-D) leaves: what was said has its receipt then, and what is left is shown. Empty
lines are not said.`,
		Example: console.Examples(`  PROGRAM chat lobby --as ann
  PROGRAM chat lobby --after 0 --listen          # all that is kept, and then whatever comes
  dmesg --follow | PROGRAM chat kernel --as $HOSTNAME
  PROGRAM chat lobby --listen --json | jq -r '.body | @base64d'`),
		Args: cli.Positional(1, 1),
	}
	flags := cmd.Flags()
	flags.StringVar(&c.join.Participant, "as", userName(), "your name there")
	after := flags.Uint64("after", 0, "begin after the message of this sequence, 0 for all that is kept (default from now on)")
	flags.Uint64Var(&c.join.From, "from", 0, "begin with the message of this sequence, whatever was before it")
	cmd.MarkFlagsMutuallyExclusive("after", "from")
	flags.BoolVar(&c.listen, "listen", false, "say nothing, and stay until interrupted")
	flags.BoolVar(&c.json, "json", false, "write each message as one line of JSON")
	cmd.RunE = c.Find(func(ctx context.Context, args []string) error {
		c.join.Channel = args[0]
		if flags.Changed("after") {
			c.join.After = after
		}
		return c.Call(ctx, func(s cli.Session) error {
			return c.run(ctx, NewClient(s.Conn, Options{Resumption: s.Resumption, Telemetry: s.Telemetry}))
		})
	})
	return cmd
}

func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "anonymous" // A container may run as a user that nobody has named.
}

// chat is one participant at a terminal or in a pipe.
type chat struct {
	*cli.Console
	join         JoinOptions
	listen, json bool

	// own counts what was typed on this terminal and has not come back: it stands there already.
	mu  sync.Mutex
	own map[string]int
}

func (c *chat) run(ctx context.Context, client *Client) error {
	conversation, err := client.Join(ctx, c.join)
	if err != nil {
		return fmt.Errorf("join %q: %w", c.join.Channel, err)
	}
	defer conversation.Close()
	said := make(chan error, 1)
	if !c.listen {
		if cli.IsTerminal(c.Stdin()) {
			c.Note("joined %q as %q; Ctrl-D leaves", c.join.Channel, c.join.Participant)
		}
		go func() {
			said <- c.sayAll(ctx, conversation)
			conversation.Leave()
		}()
	}
	if err := c.hearAll(ctx, conversation); !errors.Is(err, ErrLeft) {
		return fmt.Errorf("chat in %q: %w", c.join.Channel, err)
	}
	return <-said
}

// sayAll says each line, once the one before it has its receipt.
func (c *chat) sayAll(ctx context.Context, conversation *Conversation) error {
	echoed := cli.IsTerminal(c.Stdin()) && cli.IsTerminal(c.Stdout())
	lines := bufio.NewScanner(c.Stdin())
	lines.Buffer(nil, maxBody+len("\r\n"))
	for n := 1; lines.Scan(); n++ {
		line := lines.Bytes()
		if len(line) == 0 {
			continue
		}
		if echoed {
			c.expect(string(line))
		}
		if _, err := conversation.Send(ctx, line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line is longer than the %s that a message may have", cli.Size(maxBody))
	}
	return lines.Err()
}

// hearAll shows messages until the conversation is over, and returns why it is.
func (c *chat) hearAll(ctx context.Context, conversation *Conversation) error {
	for {
		message, err := conversation.Receive(ctx)
		if err != nil {
			return err
		}
		if err := c.show(message); err != nil {
			return err
		}
	}
}

func (c *chat) show(m *quartetv1.ChannelMessage) error {
	if c.json {
		return cli.WriteJSON(c.Stdout(), m)
	}
	if m.GetParticipant() == c.join.Participant && c.expected(string(m.GetBody())) {
		return nil
	}
	at := m.GetCreateTime().AsTime().Local().Format("15:04:05")
	_, err := fmt.Fprintf(c.Stdout(), "%s %s: %s\n", at, cli.Printable(m.GetParticipant()), cli.Printable(string(m.GetBody())))
	return err
}

func (c *chat) expect(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own[line]++
}

// expected tells whether a line was typed here, once for each time.
func (c *chat) expected(line string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own[line] == 0 {
		return false
	}
	if c.own[line]--; c.own[line] == 0 {
		delete(c.own, line)
	}
	return true
}
