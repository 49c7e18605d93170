package channel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// maxBody is the most that a message may say, by the contract.
const maxBody = 64 << 10

// chatCommand is `client chat`.
func chatCommand(terminal *cli.Terminal) *cobra.Command {
	c := &chat{Terminal: terminal, own: map[string]int{}}
	cmd := &cobra.Command{
		Use:   "chat CHANNEL",
		Short: "Talk in a channel",
		Long: `Joins a channel over one bidirectional stream, Exchange. Each line of standard input is said there, and whatever
is said there is shown. When the stream breaks, the conversation goes on without a gap or a double;
on a terminal, what is typed meanwhile waits and is said then.

The end of standard input (Ctrl-D) leaves: what was said has its receipt then, and what is left is
shown. Empty lines are not said.`,
		Example: terminal.Examples(`  PROGRAM chat lobby --as ann
  PROGRAM chat lobby --after 0 --listen          # all that is kept, and then whatever comes
  dmesg --follow | PROGRAM chat kernel --as $HOSTNAME
  PROGRAM chat lobby --listen --json | jq -r '.body | @base64d'`),
		Args: cli.Positional(1, 1),
	}
	flags := cmd.Flags()
	flags.StringVar(&c.join.Participant, "as", userName(), "your name there")
	after := flags.Uint64("after", 0,
		"begin after the message of this sequence, 0 for all that is kept (default from now on)")
	flags.Uint64Var(&c.join.From, "from", 0,
		"begin with the message of this sequence, whatever was before it")
	cmd.MarkFlagsMutuallyExclusive("after", "from")
	flags.BoolVar(&c.listen, "listen", false, "say nothing, and stay until interrupted")
	flags.BoolVar(&c.json, "json", false, "write each message as one line of JSON")
	cmd.RunE = c.Find(func(ctx context.Context, args []string) error {
		c.join.Channel = args[0]
		if flags.Changed("after") {
			c.join.After = after
		}
		return c.Call(ctx, func(s cli.Connection) error {
			return c.run(ctx, connect(s))
		})
	})
	return cmd
}

// userName is the default of --as.
func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "anonymous" // A container may run as a user without a name.
}

// chat is one participant at a terminal or in a pipe.
type chat struct {
	*cli.Terminal
	join         JoinOptions
	listen, json bool
	// editor is the line in which a person types, nil if there is none.
	editor *cli.Editor
	// out is where messages are shown: the editor, which keeps them apart from the line that is typed,
	// or standard output.
	out io.Writer

	// own counts what was typed on this terminal and has not come back: it stands there already.
	mu  sync.Mutex
	own map[string]int
	// waiting are the lines that have no receipt yet; lost says that the connection is, and the
	// stream that broke is broken.
	waiting int
	lost    bool
	broken  *telemetry.Messages
}

// run joins, and talks until the participant has left or the conversation cannot go on. A goroutine
// says lines, another one watches for the connection to come back, and this one shows messages.
func (c *chat) run(ctx context.Context, client *Client) error {
	conversation, err := client.Join(ctx, c.join)
	if err != nil {
		return fmt.Errorf("join %q: %w", c.join.Channel, err)
	}
	defer conversation.Close()
	c.out = c.Stdout()
	// Only a person that reads and types needs a line to type in. Edit returns none without a
	// terminal.
	if !c.listen && !c.json {
		if c.editor, err = c.Edit(cli.Printable(c.join.Participant) + "> "); err != nil {
			return err
		}
	}
	if c.editor != nil {
		defer c.editor.Close()
		c.out = c.editor
	}
	if !c.listen && cli.IsTerminal(c.Stdin()) {
		c.Note("* joined %q as %q; Ctrl-D leaves", c.join.Channel, c.join.Participant)
	}
	c.Outages(func(state string) { c.lose(state, conversation) })
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go c.watch(watching, conversation)
	said := make(chan error, 1)
	if !c.listen {
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

// lose tells the person that the connection is lost, once for each outage.
func (c *chat) lose(state string, conversation *Conversation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.lost {
		c.lost, c.broken = true, conversation.stream.Load()
		c.Note("* %s, trying again", state)
	}
}

// watch tells the person that the connection is back, which is when another stream has joined. It
// runs in a goroutine of its own.
func (c *chat) watch(ctx context.Context, conversation *Conversation) {
	for ctx.Err() == nil {
		c.mu.Lock()
		if c.lost && conversation.stream.Load() != c.broken {
			c.lost = false
			c.Note("* connected again")
		}
		c.mu.Unlock()
		_ = rpc.Sleep(ctx, 100*time.Millisecond) // The loop finds that ctx is done.
	}
}

// sayAll says each line, until there are no more. Those of a pipe are read once the one before has
// its receipt; those of a person wait in a row, so that what is typed while the connection is lost
// is said when it is back.
func (c *chat) sayAll(ctx context.Context, conversation *Conversation) error {
	if c.editor == nil {
		// The terminal has shown what was typed, so that it is not shown again when it comes back.
		echoed := cli.IsTerminal(c.Stdin()) && cli.IsTerminal(c.Stdout())
		return c.sayLines(func(line []byte) error {
			if echoed {
				c.expect(string(line))
			}
			_, err := conversation.Send(ctx, line)
			return err
		})
	}
	// Another goroutine sends, so that typing never waits for a receipt.
	row := make(chan string, maxWaiting)
	sent := make(chan error, 1)
	go func() {
		var failed error
		for line := range row {
			if failed == nil {
				_, failed = conversation.Send(ctx, []byte(line))
			}
			if failed == nil {
				c.wait(-1)
			}
		}
		sent <- failed
	}()
	err := c.typeLines(func(line string) {
		c.expect(line)
		row <- line
	})
	close(row)
	c.editor.Close() // From now on Ctrl-C is the terminal's own.
	c.mu.Lock()
	if c.waiting > 0 && c.lost {
		c.Note("* leaving when all is sent; Ctrl-C leaves at once")
	}
	c.mu.Unlock()
	return errors.Join(err, <-sent)
}

// maxWaiting is how many lines a person may type ahead of a connection.
const maxWaiting = 1000

// wait counts the lines that have no receipt yet, and tells of them while the connection is lost.
func (c *chat) wait(more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting += more
	state := fmt.Sprintf("%d lines wait to be sent", c.waiting)
	if c.waiting == 1 {
		state = "1 line waits to be sent"
	}
	switch {
	case c.waiting == 0:
		c.Hint("")
	case c.lost && more > 0:
		c.Note("* %s", state)
		fallthrough
	default:
		c.Hint("%s, and may not have been", state)
	}
}

// typeLines reads what a person types, up to Ctrl-D.
func (c *chat) typeLines(say func(line string)) error {
	for {
		line, err := c.editor.ReadLine()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		// The indicator comes with a line that was pasted, which is said like any other.
		case err != nil && !errors.Is(err, term.ErrPasteIndicator):
			return err
		case len(line) > maxBody:
			c.Note("* a line is longer than the %s that a message may have, and was not sent",
				cli.Size(maxBody))
		case line != "":
			c.wait(1)
			say(line)
		}
	}
}

// sayLines says each line of standard input, without empty ones. It ends with the first that cannot
// be said.
func (c *chat) sayLines(say func([]byte) error) error {
	// The end of a line may be two bytes, which the message does not have.
	lines := bufio.NewScanner(c.Stdin())
	lines.Buffer(nil, maxBody+len("\r\n"))
	for n := 1; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := say(lines.Bytes()); err != nil {
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

// show writes a message, unless it is a line that stands on the terminal already because it was
// typed there. What others have sent is made printable: it may have escape sequences for terminals.
func (c *chat) show(m *quartetv1.ChannelMessage) error {
	if c.json {
		return cli.WriteJSON(c.out, m)
	}
	if m.GetParticipant() == c.join.Participant && c.expected(string(m.GetBody())) {
		return nil
	}
	at := m.GetCreateTime().AsTime().Local().Format("15:04:05")
	_, err := fmt.Fprintf(c.out, "%s %s: %s\n", at, cli.Printable(m.GetParticipant()),
		cli.Printable(string(m.GetBody())))
	return err
}

// expect notes a line that was typed and will come back as a message.
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
