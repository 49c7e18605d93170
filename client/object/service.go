package object

import (
	"bytes"
	"context"
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
var descriptor = quartetv1.File_quartet_v1_object_proto.Services().ByName("ObjectService")

// Service is what the command line has of ObjectService.
func Service() cli.Service {
	cfg := &Config{}
	return cli.Service{
		Name:        "object",
		Descriptors: []protoreflect.ServiceDescriptor{descriptor},
		Config:      cfg,
		Commands: func(c *cli.Terminal) []*cobra.Command {
			return []*cobra.Command{
				getCommand(c), listCommand(c), deleteCommand(c), downloadCommand(c), uploadCommand(c),
				cancelUploadCommand(c),
			}
		},
		Check:      check,
		Traffic:    func(s cli.Connection) traffic.Source { return cfg.traffic(s) },
		LeftBehind: leftBehind,
		Demo:       demo,
		Panel:      newPanel,
		IsDamage:   isDamage,
	}
}

// connect makes the client of a connection.
func connect(s cli.Connection) *Client {
	return NewClient(s.Conn, Options{Resumption: s.Resumption, Telemetry: s.Telemetry})
}

// check is this service's part of `client check`. It uses an object of its own, which it deletes
// last; each step needs the one before.
func check(s cli.Connection) []cli.Step {
	client, name := connect(s), "check "+uuid.NewString()
	// The name has a random part, so that an object of an earlier check is not taken for this one.
	content := []byte(name)
	return []cli.Step{
		{Method: "UploadObject", Do: func(ctx context.Context) error {
			_, err := client.Upload(ctx, name, bytes.NewReader(content), UploadOptions{SHA256: true})
			return err
		}},
		{Method: "GetObject", Do: func(ctx context.Context) error {
			object, err := client.Get(ctx, name)
			if err == nil && object.GetSizeBytes() != uint64(len(content)) {
				return fmt.Errorf("%w: %d bytes in place of %d", traffic.ErrWrong, object.GetSizeBytes(),
					len(content))
			}
			return err
		}},
		{Method: "DownloadObject", Do: func(ctx context.Context) error {
			var got bytes.Buffer
			if _, err := client.Download(ctx, name, &got, DownloadOptions{}); err != nil {
				return err
			}
			if !bytes.Equal(got.Bytes(), content) {
				return fmt.Errorf("%w: %q in place of %q", traffic.ErrWrong, &got, content)
			}
			return nil
		}},
		{Method: "DeleteObject", CleanUp: true, Do: func(ctx context.Context) error {
			return client.Delete(ctx, name, DeleteOptions{AllowMissing: true})
		}},
	}
}
