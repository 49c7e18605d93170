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

// writeObject writes all that is known of an object.
func writeObject(w io.Writer, asJSON bool, o *quartetv1.Object) error {
	if asJSON {
		return cli.WriteJSON(w, o)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, value) }
	row("name", cli.Printable(o.GetName()))
	row("generation", strconv.FormatInt(o.GetGeneration(), 10))
	row("content type", cli.Printable(o.GetContentType()))
	row("size", fmt.Sprintf("%d bytes (%s)", o.GetSizeBytes(), cli.Size(int64(o.GetSizeBytes()))))
	row("crc32c", checksum(o.GetCrc32C()))
	if len(o.GetSha256()) > 0 {
		row("sha256", hex.EncodeToString(o.GetSha256()))
	}
	row("created", created(o))
	return table.Flush()
}

func created(o *quartetv1.Object) string {
	return o.GetCreateTime().AsTime().Format(time.RFC3339)
}

// checksum is a CRC-32C as people read it.
func checksum(crc32c uint32) string { return fmt.Sprintf("%08x", crc32c) }
