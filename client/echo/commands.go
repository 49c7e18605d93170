package echo

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"example.com/quartet/internal/cli"
)

func echoCommand(c *cli.Terminal) *cobra.Command {
	p := &printer{Terminal: c}
	return p.flag(&cobra.Command{
		Use:     "echo TEXT",
		Short:   "Send a text and print it as it comes back",
		Long:    "Sends a text and prints it as it comes back. It is one unary call, Echo.",
		Example: c.Examples("  PROGRAM echo 'hello there'"),
		Args:    cli.Positional(1, 1),
		RunE: c.Find(func(ctx context.Context, args []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				text, err := connect(s).Echo(ctx, args[0])
				if err != nil {
					return fmt.Errorf("echo: %w", err)
				}
				return p.print(text)
			})
		}),
	})
}

func expandCommand(c *cli.Terminal) *cobra.Command {
	p := &printer{Terminal: c}
	return p.flag(&cobra.Command{
		Use:     "expand TEXT",
		Short:   "Send a text and print its words as they come back",
		Long:    "Sends a text and prints its words, one on a line, as they come back over one server stream, Expand.",
		Example: c.Examples("  PROGRAM expand 'one two three'"),
		Args:    cli.Positional(1, 1),
		RunE: c.Find(func(ctx context.Context, args []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				err := connect(s).Expand(ctx, args[0], p.print)
				if err != nil {
					return fmt.Errorf("expand: %w", err)
				}
				return nil
			})
		}),
	})
}

func collectCommand(c *cli.Terminal) *cobra.Command {
	p := &printer{Terminal: c}
	return p.flag(&cobra.Command{
		Use:     "collect WORD...",
		Short:   "Send words and print the text that they make",
		Long:    "Sends words over one client stream, Collect, and prints the text that they make.",
		Example: c.Examples("  PROGRAM collect one two three"),
		Args:    cobra.MinimumNArgs(1),
		RunE: c.Find(func(ctx context.Context, args []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				text, err := connect(s).Collect(ctx, args)
				if err != nil {
					return fmt.Errorf("collect: %w", err)
				}
				return p.print(text)
			})
		}),
	})
}

func converseCommand(c *cli.Terminal) *cobra.Command {
	p := &printer{Terminal: c}
	return p.flag(&cobra.Command{
		Use:   "converse",
		Short: "Send lines and print them as they come back",
		Long: `Sends each line of standard input over one bidirectional stream, Chat, and prints it as it comes back. The end of
standard input (Ctrl-D) ends it when everything has come back.`,
		Example: c.Examples("  seq 3 | PROGRAM converse"),
		Args:    cli.Positional(0, 0),
		RunE: c.Find(func(ctx context.Context, _ []string) error {
			return c.Call(ctx, func(s cli.Connection) error {
				texts, problem := lines(ctx, c)
				if err := connect(s).Chat(ctx, texts, p.print); err != nil {
					return fmt.Errorf("converse: %w", err)
				}
				return *problem
			})
		}),
	})
}

// lines reads standard input line by line. The error is set when the channel is closed.
func lines(ctx context.Context, c *cli.Terminal) (texts <-chan string, problem *error) {
	to := make(chan string)
	problem = new(error)
	go func() {
		defer close(to)
		from := bufio.NewScanner(c.Stdin())
		for from.Scan() {
			select {
			case to <- strings.ToValidUTF8(from.Text(), "\uFFFD"):
			case <-ctx.Done():
				return
			}
		}
		*problem = from.Err()
	}()
	return to, problem
}

// printer writes what comes back: each text on a line of its own, and with --json as it is.
type printer struct {
	*cli.Terminal
	json bool
}

func (p *printer) print(text string) error {
	if p.json {
		return cli.WriteJSON(p.Stdout(), map[string]string{"text": text})
	}
	_, err := fmt.Fprintln(p.Stdout(), cli.Printable(text))
	return err
}

// flag gives a command the flag --json.
func (p *printer) flag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&p.json, "json", false, "write each text as one line of JSON")
	return cmd
}
