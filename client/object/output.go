package object

import (
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
)

// exact is an object for programs: nothing is rounded or left out, and checksums are written as
// everywhere else. Numbers of 64 bits are strings, as in the JSON of protobuf, because many readers
// round them.
type exact struct {
	Name        string    `json:"name"`
	Generation  int64     `json:"generation,string"`
	ContentType string    `json:"content_type"`
	SizeBytes   uint64    `json:"size_bytes,string"`
	CRC32C      string    `json:"crc32c"`
	SHA256      string    `json:"sha256,omitempty"`
	CreateTime  time.Time `json:"create_time"`
}

// listed is what a list has of an object.
type listed struct {
	Name       string    `json:"name"`
	SizeBytes  uint64    `json:"size_bytes,string"`
	CreateTime time.Time `json:"create_time"`
}

// writeExact writes an object as one line of JSON.
func writeExact(w io.Writer, o *quartetv1.Object) error {
	return cli.WriteJSON(w, exact{
		o.GetName(), o.GetGeneration(), o.GetContentType(), o.GetSizeBytes(), checksum(o.GetCrc32C()),
		hex.EncodeToString(o.GetSha256()), o.GetCreateTime().AsTime(),
	})
}

// writeObject writes all that is known of an object.
func writeObject(w io.Writer, asJSON bool, o *quartetv1.Object) error {
	if asJSON {
		return writeExact(w, o)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, value) }
	row("name", cli.Printable(o.GetName()))
	row("generation", strconv.FormatInt(o.GetGeneration(), 10))
	row("content type", cli.Printable(o.GetContentType()))
	row("size", size(o))
	row("crc32c", checksum(o.GetCrc32C()))
	// Only an upload that named one has a SHA-256.
	if len(o.GetSha256()) > 0 {
		row("sha256", hex.EncodeToString(o.GetSha256()))
	}
	row("created", created(o))
	return table.Flush()
}

// size is that of an object, rounded for people, and created its time.
func size(o *quartetv1.Object) string { return cli.Size(int64(o.GetSizeBytes())) }

func created(o *quartetv1.Object) string { return cli.Time(o.GetCreateTime().AsTime()) }

// checksum is a CRC-32C as people, logs and JSON have it: eight hexadecimal digits.
func checksum(crc32c uint32) string { return fmt.Sprintf("%08x", crc32c) }
