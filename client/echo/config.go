package echo

import (
	"errors"

	"example.com/quartet/internal/traffic"
)

// Config is what can be set of the steady traffic, each by an environment variable. A rate is in
// operations per second.
type Config struct {
	Echoes      float64 `env:"TRAFFIC_ECHOES" envDefault:"2" desc:"serve: texts echoed per second; 0 for none"`
	Expansions  float64 `env:"TRAFFIC_EXPANSIONS" envDefault:"1" desc:"serve: texts expanded per second; 0 for none"`
	Collections float64 `env:"TRAFFIC_COLLECTIONS" envDefault:"1" desc:"serve: texts collected per second; 0 for none"`
	Chats       float64 `env:"TRAFFIC_CHATS" envDefault:"1" desc:"serve: chats of nine messages per second; 0 for none"`
}

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	return errors.Join(
		traffic.ValidRate("TRAFFIC_ECHOES", c.Echoes),
		traffic.ValidRate("TRAFFIC_EXPANSIONS", c.Expansions),
		traffic.ValidRate("TRAFFIC_COLLECTIONS", c.Collections),
		traffic.ValidRate("TRAFFIC_CHATS", c.Chats),
	)
}
