package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// printable is text that somebody else wrote, made safe for a terminal: whatever could move the cursor, change the
// direction of writing or begin a line of its own is escaped as in Go. The joiners stay, which scripts and emoji need.
func printable(text string) string {
	return escape(text, func(r rune) string {
		quoted := strconv.QuoteRune(r)
		return quoted[1 : len(quoted)-1]
	})
}

func escape(text string, how func(rune) string) string {
	var safe strings.Builder
	for _, r := range text {
		if unicode.IsGraphic(r) || r == '\u200c' || r == '\u200d' {
			safe.WriteRune(r)
		} else {
			safe.WriteString(how(r))
		}
	}
	return safe.String()
}

// writeJSON writes a message as one line. protojson varies its white space from build to build on purpose, so that
// nobody relies on it; compacted it is stable. Control characters that JSON allows are escaped all the same.
func writeJSON(w io.Writer, m proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return err
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, escape(line.String(), func(r rune) string {
		if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
			return fmt.Sprintf(`\u%04x\u%04x`, high, low)
		}
		return fmt.Sprintf(`\u%04x`, r)
	}))
	return err
}

// writeObject writes all that is known of an object.
func writeObject(w io.Writer, asJSON bool, o *quartetv1.Object) error {
	if asJSON {
		return writeJSON(w, o)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, value) }
	row("name", printable(o.GetName()))
	row("generation", strconv.FormatInt(o.GetGeneration(), 10))
	row("content type", printable(o.GetContentType()))
	row("size", fmt.Sprintf("%d bytes (%s)", o.GetSizeBytes(), size(int64(o.GetSizeBytes()))))
	row("crc32c", fmt.Sprintf("%08x", o.GetCrc32C()))
	if len(o.GetSha256()) > 0 {
		row("sha256", hex.EncodeToString(o.GetSha256()))
	}
	row("created", created(o))
	return table.Flush()
}

func created(o *quartetv1.Object) string {
	return o.GetCreateTime().AsTime().Format(time.RFC3339)
}

// size is a number of bytes for people.
func size(bytes int64) string {
	value, unit := float64(bytes), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, larger
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
