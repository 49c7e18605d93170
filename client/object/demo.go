package object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"example.com/quartet/internal/cli"
)

// demo is this service's part of the demo: it sends a file, or 64 MiB of its own making, looks it
// up, fetches it again, and compares the SHA-256 of both.
func demo(ctx context.Context, s cli.Connection, file string, show cli.Show) error {
	const name, size = "demo/file", 64 << 20
	client := connect(s)
	var from io.ReadSeeker = newContent(1, size).reader()
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	// Read once beforehand, so that the demo compares with the file and not with what the upload has
	// read.
	sent := sha256.New()
	if _, err := io.Copy(sent, from); err != nil {
		return err
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	began := time.Now()
	uploaded, err := client.Upload(ctx, name, from, UploadOptions{})
	if err != nil {
		return err
	}
	show("upload", "%s in %v", cli.Size(int64(uploaded.GetSizeBytes())),
		time.Since(began).Round(time.Millisecond))
	found, err := client.Get(ctx, name)
	if err != nil {
		return err
	}
	show("look up", "%q has %d bytes and the CRC-32C %s", found.GetName(), found.GetSizeBytes(),
		checksum(found.GetCrc32C()))
	got := sha256.New()
	began = time.Now()
	if _, err := client.Download(ctx, name, got, DownloadOptions{}); err != nil {
		return err
	}
	show("download", "in %v", time.Since(began).Round(time.Millisecond))
	if !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		return errors.New("the file came back different")
	}
	show("compare", "the same, byte for byte: SHA-256 %s", fmt.Sprintf("%x", sent.Sum(nil)))
	return nil
}
