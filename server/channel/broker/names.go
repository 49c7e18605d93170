package broker

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// In bytes, as the contract says.
	maxName      = 128
	maxPrefix    = 64 // Escaped it is part of the stream's name, which has at most 255.
	maxMessageID = 64
)

// names are what the stream, its subjects and headers are called at the broker. They begin with
// Options.Name, so that several products can share a broker. Those of a stream for the channels of
// a prefix have one token more, so that no wildcard matches subjects of both.
type names struct {
	stream string
	// subject is where messages are published to, one subject per channel below it.
	subject string
	// live is where the stream announces what it has stored, under the same names.
	live string
	// participant and messageID are names of headers.
	participant, messageID string
}

// namesOf a product that is called "big_shop" are BIG_SHOP_CHANNELS, big_shop.channel. and
// Big-Shop-Participant, and with the prefix "press/" BIG_SHOP_CHANNELS-press%2F and
// big_shop.channel.press%2F.
func namesOf(product, prefix string) names {
	words := strings.FieldsFunc(product, func(r rune) bool { return r == '_' || r == '-' })
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	header := strings.Join(words, "-")
	n := names{
		stream:      strings.ToUpper(product) + "_CHANNELS",
		subject:     product + ".channel.",
		live:        product + ".live.",
		participant: header + "-Participant",
		messageID:   header + "-Message-Id",
	}
	if prefix != "" {
		token := escape(prefix)
		n.stream, n.subject, n.live = n.stream+"-"+token, n.subject+token+".", n.live+token+"."
	}
	return n
}

// CheckName returns ErrInvalidName unless name may be a channel's or a participant's: 1 to 128
// bytes of UTF-8 without control characters.
func CheckName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, unicode.IsControl) {
		return ErrInvalidName
	}
	return nil
}

// CheckPrefix returns an error unless prefix may be what names of channels begin with that are kept
// apart.
func CheckPrefix(prefix string) error {
	if len(prefix) > maxPrefix || CheckName(prefix) != nil {
		return fmt.Errorf("prefix must be 1 to %d bytes of UTF-8 without control characters", maxPrefix)
	}
	return nil
}

// checkMessageID returns ErrInvalidMessageID unless id is one by the contract.
func checkMessageID(id string) error {
	if id == "" || len(id) > maxMessageID ||
		strings.ContainsFunc(id, func(r rune) bool { return !isPlain(r) }) {
		return ErrInvalidMessageID
	}
	return nil
}

// isPlain says whether a character may be in a message id, and stands for itself in an escaped
// name.
func isPlain(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}

// escape writes a name as one token of a subject or as a header: what could mean something to NATS
// (dots, wildcards, blanks, anything but ASCII) becomes %XX, and the rest stays readable for
// operators. url.PathUnescape is its inverse.
func escape(name string) string {
	const digits = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(name) {
		if c := name[i]; isPlain(rune(c)) {
			out.WriteByte(c)
		} else {
			out.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return out.String()
}

// dedupKey is what JetStream recognizes a repeated message by. It does so for the whole stream, so
// the key stands for the channel, the participant and the identity of the client as well: no client
// with another identity can make a message look repeated, whatever it calls itself. It is a hash
// because the server holds every key in memory for the whole window.
func dedupKey(channel, owner, participant, id string) string {
	// A name has no control characters, so the separator is unambiguous; an owner, which may have
	// some, comes last.
	key := channel + "\x00" + participant + "\x00" + id
	if owner != "" {
		key += "\x00" + owner
	}
	sum := sha256.Sum256([]byte(key))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
