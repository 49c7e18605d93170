package web

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"example.com/quartet/internal/config"
)

// Config is what an operator may change about the web port. Its limits are those of the server.
type Config struct {
	Address             config.Address `env:"ADDRESS" desc:"where browsers and curl call, by Connect, gRPC-Web or JSON, such as :8080; empty for nowhere"`
	AllowedOrigins      Origins        `env:"ALLOWED_ORIGINS" desc:"origins of the pages that may call, such as https://shop.example.com, with commas between them; * for all"`
	ProcessorsPerCaller int            `env:"PROCESSORS_PER_CALLER" envDefault:"0" desc:"requests of one certificate, or else of one address, that are worked on at once; more wait in turn; 0 for half of the processors, and one at least"`
}

// Validate refuses a share that would let no request through.
func (c Config) Validate() error {
	if c.ProcessorsPerCaller < 0 {
		return fmt.Errorf("PROCESSORS_PER_CALLER=%d: must not be negative", c.ProcessorsPerCaller)
	}
	return nil
}

// Origins are those of pages from elsewhere that may call.
type Origins []string

// anyOrigin stands for all.
const anyOrigin = "*"

// UnmarshalText reads a list with commas. It refuses what no browser sends as its Origin.
func (o *Origins) UnmarshalText(text []byte) error {
	*o = nil
	for origin := range strings.SplitSeq(string(text), ",") {
		origin = strings.TrimSpace(origin)
		if err := checkOrigin(origin); err != nil {
			return err
		}
		*o = append(*o, origin)
	}
	if len(*o) > 1 && slices.Contains(*o, anyOrigin) {
		return errors.New("has * and others beside it, expected * alone or origins")
	}
	return nil
}

func checkOrigin(origin string) error {
	if origin == anyOrigin {
		return nil
	}
	u, err := config.ParseURL(origin, "https", "http")
	if err != nil {
		return err
	}
	if exact := (&url.URL{Scheme: u.Scheme, Host: u.Host}).String(); origin != exact ||
		origin != strings.ToLower(origin) {
		return fmt.Errorf("is no origin: expected scheme://host or scheme://host:port in lower case and nothing behind it, did you mean %s?", strings.ToLower(exact))
	}
	return nil
}

// allow is true for an origin of the list.
func (o Origins) allow(origin string) bool {
	return slices.Contains(o, anyOrigin) || slices.Contains(o, origin)
}
