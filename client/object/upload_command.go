package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/rpc"
)

// uploadCommand is `client upload`.
func uploadCommand(c *cli.Terminal) *cobra.Command {
	var options UploadOptions
	var asJSON, fromCommand bool
	cmd := &cobra.Command{
		Use:   "upload FILE|- [NAME]",
		Short: "Send an object",
		Long: `Sends a file, or standard input for -, over one client stream, and goes on at the last
committed byte when the stream breaks. The object appears under NAME, by default the file's, once
the server has verified all of it and has it on disk. Nothing is stored of a file that changes
meanwhile.

An interrupted upload says how to continue it, with --upload-id, within the time for which the
server keeps it, and how to cancel it. Standard input has to bring the same bytes from the start
again. A pipe does not tell whether its writer failed: --from-command starts it instead, and
stores nothing unless it succeeds.`,
		Example: c.Examples(`  PROGRAM upload holiday.mp4
  PROGRAM upload holiday.mp4 photos/2026/holiday.mp4 --sha256
  PROGRAM upload - notes.txt < notes
  PROGRAM upload --from-command photos.tar -- tar c photos`),
		Args: func(cmd *cobra.Command, args []string) error {
			if fromCommand && len(args) < 2 {
				return errors.New("--from-command needs a NAME and a COMMAND: " +
					"upload --from-command NAME -- COMMAND [ARGUMENT...]")
			} else if fromCommand {
				return nil
			}
			return cli.Positional(1, 2)(cmd, args)
		},
		RunE: c.Do(func(ctx context.Context, args []string) (err error) {
			var from *input
			switch {
			case fromCommand:
				from, err = startInput(ctx, c, args[0], args[1:])
			case len(args) == 2 && args[1] == "":
				err = cli.UsageError(errors.New("NAME is empty"))
			default:
				from, err = openInput(c, args[0], cli.Argument(args, 1))
			}
			if err != nil {
				return err
			}
			defer from.close()
			// protobuf takes no other strings, and would say so less clearly.
			if !utf8.ValidString(from.name) {
				return cli.UsageError(fmt.Errorf("NAME=%q: is not UTF-8", from.name))
			}
			return uploadFrom(ctx, c, from, options, asJSON)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&options.ContentType, "content-type", "",
		"media type (default by extension, then by content)")
	flags.StringVar(&options.ID, "upload-id", "", "continue the upload of this id")
	flags.BoolVar(&options.SHA256, "sha256", false,
		"have the server verify the SHA-256 too, at the cost of a pass over all bytes")
	flags.BoolVar(&fromCommand, "from-command", false,
		"send what a command writes, if it succeeds: upload --from-command NAME -- COMMAND")
	flags.BoolVar(&asJSON, "json", false, "write the object as one line of JSON")
	return cmd
}

// uploadFrom uploads an input, and tells the person how to continue or cancel it if it does not end
// well.
func uploadFrom(
	ctx context.Context, c *cli.Terminal, from *input, options UploadOptions, asJSON bool,
) error {
	options.Continue = options.ID != ""
	bar := c.NewProgress("uploading", options.Continue)
	options.Size = from.size
	options.Progress = func(p Progress) { bar.Update(p.Done, p.Safe, p.Total, p.Resumes) }
	if options.ID == "" {
		options.ID = uuid.NewString() // Known before anything goes wrong, so that it can be told.
	}
	if options.ContentType == "" {
		options.ContentType = from.contentType()
	}
	return c.Call(ctx, func(s cli.Connection) error {
		hint := c.Examples(fmt.Sprintf("to continue, add: --upload-id %[1]s\n"+
			"to cancel it: PROGRAM cancel-upload %[1]s", options.ID))
		c.Hint("%s", hint)
		object, err := connect(s).Upload(ctx, from.name, from.reader, options)
		if err != nil {
			// The hint is otherwise shown only after an interruption or when servers are away.
			if isFull(rpc.Reason(err)) {
				fmt.Fprintln(c.Stderr(), hint)
			}
			return err
		}
		bar.End(fmt.Sprintf("uploaded %q", from.name))
		return writeObject(c.Stdout(), asJSON, object)
	})
}

// isFull tells whether the upload can go on once there is room again.
func isFull(reason string) bool { return reason == "STORE_FULL" || reason == "QUOTA_EXCEEDED" }

// input is what is uploaded.
type input struct {
	file   *os.File // nil if it is no file
	reader io.Reader
	name   string
	// size is 0 if it is not known beforehand.
	size int64
	// stop ends the command that it comes from; nil if it comes from none.
	stop func()
}

// startInput starts a command, whose output will be the object NAME.
func startInput(
	ctx context.Context, c *cli.Terminal, name string, command []string,
) (*input, error) {
	ctx, stop := context.WithCancel(ctx)
	program := exec.CommandContext(ctx, command[0], command[1:]...)
	// WaitDelay is for a command that leaves a process behind which holds the output open.
	program.Stdin, program.Stderr, program.WaitDelay = c.Stdin(), c.Stderr(), time.Second
	output, err := program.StdoutPipe()
	if err == nil {
		err = program.Start()
	}
	if err != nil {
		stop()
		return nil, err
	}
	wait := sync.OnceValue(program.Wait)
	return &input{name: name, reader: &commandOutput{output, wait, command[0]}, stop: func() {
		stop()
		_ = wait() // The upload has its own error.
	}}, nil
}

// commandOutput is what a command writes. It ends well only if the command does.
type commandOutput struct {
	io.Reader
	wait func() error
	name string
}

// Read implements io.Reader. The end of the output is passed on only once the command has ended,
// and well.
func (o *commandOutput) Read(p []byte) (int, error) {
	n, err := o.Reader.Read(p)
	if err == nil {
		return n, nil
	}
	// The upload fails with that, instead of taking what was written for the whole.
	if failed := o.wait(); failed != nil {
		return n, fmt.Errorf("%s: %w; nothing is stored", o.name, failed)
	}
	return n, io.EOF
}

// openInput opens FILE, whose object will be NAME.
func openInput(c *cli.Terminal, file, name string) (*input, error) {
	if file == "-" {
		if name == "" {
			return nil, cli.UsageError(errors.New("an upload from standard input needs a NAME"))
		}
		if err := c.NeedStdin(); err != nil {
			return nil, err
		}
		o := &input{reader: c.Stdin(), name: name}
		f, ok := c.Stdin().(*os.File)
		if !ok {
			return o, nil
		}
		return o, o.use(f)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = filepath.Base(file)
	}
	o := &input{file: f, name: name}
	if err := o.use(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return o, nil
}

// use reads from f, and learns its size and reads it again where needed if it is a regular file:
// some devices say that they can seek, and do not.
func (o *input) use(f *os.File) error {
	// The wrapper hides Seek, until f is known to be a regular file.
	o.reader = struct{ io.Reader }{f}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return cli.UsageError(fmt.Errorf("%s is a directory", f.Name()))
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	// Standard input may be a file of which some was read before.
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	o.reader, o.size = f, max(info.Size()-at, 0)
	return nil
}

// contentType goes by the extension, then by the first bytes if they can be read twice, and is ""
// if neither tells.
func (o *input) contentType() string {
	name := o.name
	if o.file != nil {
		name = o.file.Name()
	}
	if byExtension := mime.TypeByExtension(filepath.Ext(name)); byExtension != "" {
		return byExtension
	}
	seeker, ok := o.reader.(io.ReadSeeker)
	if !ok {
		return ""
	}
	start := make([]byte, 512)
	n, _ := io.ReadFull(seeker, start) // What cannot be read, the upload will tell.
	if _, err := seeker.Seek(int64(-n), io.SeekCurrent); err != nil || n == 0 {
		return ""
	}
	return http.DetectContentType(start[:n])
}

// close ends the command or closes the file.
func (o *input) close() {
	if o.file != nil {
		_ = o.file.Close() // It was only read.
	}
	if o.stop != nil {
		o.stop()
	}
}
