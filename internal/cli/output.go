package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Printable is text that came from elsewhere, made safe for a terminal: whatever could move the
// cursor, change the direction of writing or begin a line of its own is escaped as in Go. The
// joiners stay, which scripts and emoji need.
func Printable(text string) string {
	return escape(text, func(r rune) string {
		quoted := strconv.QuoteRune(r)
		return quoted[1 : len(quoted)-1]
	})
}

// escape replaces what is no graphic character (Unicode's L, M, N, P, S and Zs) by how. U+200C and
// U+200D are the zero-width non-joiner and joiner.
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

// WriteJSON writes a message, or anything that encoding/json takes, as one line. protojson varies
// its white space from build to build on purpose; compacted it is stable. Control characters that
// JSON allows are escaped all the same.
func WriteJSON(w io.Writer, value any) (err error) {
	var line bytes.Buffer
	// The names are those of the .proto file, as in the rest of the command line.
	if m, ok := value.(proto.Message); ok {
		var text []byte
		if text, err = (protojson.MarshalOptions{UseProtoNames: true}).Marshal(m); err == nil {
			err = json.Compact(&line, text)
		}
	} else {
		encoder := json.NewEncoder(&line)
		// The line does not go into HTML, so that & and < stay readable.
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(value)
		// Encode ends with a new line, which comes below.
		line.Truncate(max(line.Len()-len("\n"), 0))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, escape(line.String(), func(r rune) string {
		// JSON escapes what is beyond 16 bits as a surrogate pair (RFC 8259, section 7).
		if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
			return fmt.Sprintf(`\u%04x\u%04x`, high, low)
		}
		return fmt.Sprintf(`\u%04x`, r)
	}))
	return err
}

// Time is a time for people: in their zone, to the minute.
func Time(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// Size is a number of bytes for people.
func Size(bytes int64) string {
	// Binary units, as in the configuration.
	value, unit := float64(bytes), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, larger
	}
	// Single bytes have no fraction.
	if unit == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
