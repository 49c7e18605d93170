package channel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"example.com/quartet/internal/config"
	"example.com/quartet/server/channel/broker"
)

const (
	// maxPrefixes bounds what prefixes cost: a NATS connection each, and embedded a NATS server.
	maxPrefixes = 32
	// minPrefixBytes has room for some messages of the largest size, and maxPrefixBytes is more than
	// any disk has.
	minPrefixBytes, maxPrefixBytes = config.Bytes(1 << 20), config.Bytes(1 << 50)
)

// Prefixes are what names of channels begin with that have limits of their own.
type Prefixes []broker.Prefix

// UnmarshalText takes a JSON list, because a prefix may have any separator in it.
func (p *Prefixes) UnmarshalText(text []byte) error {
	var entries []struct {
		Prefix    string       `json:"prefix"`
		Retention duration     `json:"retention"`
		MaxBytes  config.Bytes `json:"maxBytes"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&entries); err != nil {
		return fmt.Errorf("is no JSON list of prefix, retention and maxBytes, all strings: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("has something behind the JSON list")
	}
	*p = nil
	for _, e := range entries {
		*p = append(*p, broker.Prefix{Name: e.Prefix, Retention: time.Duration(e.Retention),
			MaxBytes: int64(e.MaxBytes)})
	}
	return nil
}

// validate names the prefix in each problem. A message id is remembered for window, and its message
// has to be kept for as long.
func (p Prefixes) validate(window time.Duration) error {
	problems := []error{config.Within("PREFIXES: their number", len(p), 0, maxPrefixes)}
	seen := map[string]bool{}
	for _, e := range p {
		at := fmt.Sprintf("PREFIXES: %q", e.Name)
		problems = append(problems, config.About(at, broker.CheckPrefix(e.Name)),
			config.Within(at+": retention", e.Retention, max(time.Second, window), maxRetention),
			config.Within(at+": maxBytes", config.Bytes(e.MaxBytes), minPrefixBytes, maxPrefixBytes))
		if seen[e.Name] {
			problems = append(problems, fmt.Errorf("%s: is there twice", at))
		}
		seen[e.Name] = true
	}
	return errors.Join(problems...)
}

// duration is a time.Duration that JSON has as text, such as "24h".
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}
