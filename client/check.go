package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"example.com/quartet/client/call"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "See whether everything works",
		Long: `Waits until both services say that they are serving, makes one call of each mode, verifies the answers, and removes
what it made. It is what "helm test" runs.`,
		Example: `  quartet check
  quartet check --timeout 30s && echo all is well`,
		Args: positional(0, 0),
		RunE: a.command(func(ctx context.Context, _ []string) error {
			return a.withBoth(ctx, func(caller *call.Client) error {
				fmt.Fprintln(a.stdout, "ok  grpc.health.v1    both services are serving")
				return a.check(ctx, caller)
			})
		}),
	}
}

// check goes through the modes in the order in which each needs the one before.
func (a *app) check(ctx context.Context, caller *call.Client) error {
	content := []byte("check " + uuid.NewString())
	name := string(content)
	for _, step := range []struct {
		mode string
		do   func() error
	}{
		{"client streaming  UploadObject", func() error { return checkUpload(ctx, caller, name, content) }},
		{"unary             GetObject", func() error { return checkGet(ctx, caller, name, content) }},
		{"server streaming  DownloadObject", func() error { return checkDownload(ctx, caller, name, content) }},
		{"bidirectional     Exchange", func() error { return checkExchange(ctx, caller, name, content) }},
		{"unary             DeleteObject", func() error { return caller.Delete(ctx, name, call.DeleteOptions{AllowMissing: true}) }},
	} {
		began := time.Now()
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.mode, err)
		}
		fmt.Fprintf(a.stdout, "ok  %-34s%v\n", step.mode, time.Since(began).Round(10*time.Microsecond))
	}
	return nil
}

// errWrong is an answer that came, and is not the right one.
var errWrong = errors.New("wrong answer")

func checkUpload(ctx context.Context, caller *call.Client, name string, content []byte) error {
	_, err := caller.Upload(ctx, name, bytes.NewReader(content), call.UploadOptions{SHA256: true})
	return err
}

func checkGet(ctx context.Context, caller *call.Client, name string, content []byte) error {
	object, err := caller.Get(ctx, name)
	if err == nil && object.GetSizeBytes() != uint64(len(content)) {
		return fmt.Errorf("%w: %d bytes in place of %d", errWrong, object.GetSizeBytes(), len(content))
	}
	return err
}

func checkDownload(ctx context.Context, caller *call.Client, name string, content []byte) error {
	var got bytes.Buffer
	if _, err := caller.Download(ctx, name, &got, call.DownloadOptions{}); err != nil {
		return err
	}
	if !bytes.Equal(got.Bytes(), content) {
		return fmt.Errorf("%w: %q in place of %q", errWrong, &got, content)
	}
	return nil
}

func checkExchange(ctx context.Context, caller *call.Client, channel string, body []byte) error {
	conversation, err := caller.Join(ctx, call.JoinOptions{Channel: channel, Participant: "check"})
	if err != nil {
		return err
	}
	defer conversation.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := conversation.Send(ctx, body)
		sent <- err
	}()
	message, err := conversation.Receive(ctx)
	if err != nil {
		return err
	}
	if !bytes.Equal(message.GetBody(), body) {
		return fmt.Errorf("%w: %q in place of %q", errWrong, message.GetBody(), body)
	}
	return <-sent
}
