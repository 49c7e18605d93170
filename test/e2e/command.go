package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killAfter is how long a command that was asked to end may take.
const killAfter = 30 * time.Second

// command is a program that ends with the test at the latest: it is interrupted, as by Ctrl-C, and
// killed if that does not help.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = killAfter
	return cmd
}

// output is what a command wrote.
type output struct{ stdout, stderr string }

// try runs a command with what is on its standard input.
func try(ctx context.Context, stdin, name string, args ...string) (output, error) {
	return tryWith(ctx, nil, stdin, name, args...)
}

// tryWith is try with variables besides those of the test.
func tryWith(
	ctx context.Context, environ []string, stdin, name string, args ...string,
) (output, error) {
	var stdout, stderr bytes.Buffer
	cmd := command(ctx, name, args...)
	cmd.Env = append(cmd.Environ(), environ...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return output{stdout.String(), stderr.String()}, err
}

// run runs a command that has to succeed.
func run(t *testing.T, name string, args ...string) output {
	t.Helper()
	out, err := try(t.Context(), "", name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
