package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
	"example.com/quartet/server/object/s3"
	"example.com/quartet/server/object/s3/s3test"
	"example.com/quartet/test/bench/measure"
)

// printRequests counts what the engine asks of S3, at a service that does nothing else.
func printRequests(ctx context.Context, out io.Writer) error {
	fake := s3test.New()
	service := httptest.NewServer(fake)
	defer service.Close()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	const part = 64 << 10
	e, err := s3.Open(ctx, s3test.URL(service.Listener.Addr().String(), s3test.Bucket),
		s3.Options{
			PartBytes: part, SpareParts: 1, Quota: &engine.Quota{}, Log: slog.New(slog.DiscardHandler),
		})
	if err != nil {
		return err
	}
	lines := measure.NewTable("what", "requests to S3")
	counted := func(what string, err error) error {
		lines.Add(what, fmt.Sprint(fake.Requests()))
		return err
	}
	fake.Requests()
	err = errors.Join(
		counted("upload of 1 KiB", putObject(ctx, e, "small", 1<<10)),
		counted("the same in its place", putObject(ctx, e, "small", 1<<10)),
		counted("upload of 64 parts", putObject(ctx, e, "large", 64*part)),
		counted("download of 1 KiB", readObject(ctx, e, "small")),
		counted("download of 64 parts", readObject(ctx, e, "large")),
		counted("deletion of 64 parts", e.Delete(ctx, "large", 0)),
	)
	fmt.Fprint(out, "**Requests**\n\n")
	lines.Print(out)
	return errors.Join(err, e.Close())
}

func putObject(ctx context.Context, e engine.Engine, name string, size int) error {
	u, err := e.Begin(ctx, engine.Header{UploadID: fmt.Sprintf("count-%s-%p", name, &size), Name: name}, true)
	if err != nil {
		return err
	}
	content := bytes.Repeat([]byte("a"), size)
	err = u.Append([][]byte{content}, crc32c.Checksum(content))
	if err == nil {
		_, err = u.Finish(engine.Expect{})
	}
	return errors.Join(err, u.Close())
}

func readObject(ctx context.Context, e engine.Engine, name string) error {
	r, err := e.Open(ctx, name, 0, 0, 0)
	if err != nil {
		return err
	}
	for buffer := make([]byte, bufferBytes); err == nil; {
		_, _, err = r.Next(buffer, true)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, r.Close())
}
