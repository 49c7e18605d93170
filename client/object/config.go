package object

import (
	"errors"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/traffic"
)

// Config is what can be set of the steady traffic, each by an environment variable. A rate is in
// operations per second.
type Config struct {
	Lookups   float64      `env:"TRAFFIC_LOOKUPS" envDefault:"5" desc:"serve: objects looked up per second; 0 for none"`
	Downloads float64      `env:"TRAFFIC_DOWNLOADS" envDefault:"0.5" desc:"serve: objects downloaded per second; 0 for none"`
	Uploads   float64      `env:"TRAFFIC_UPLOADS" envDefault:"0.5" desc:"serve: objects uploaded per second; 0 for none"`
	Bytes     config.Bytes `env:"TRAFFIC_BYTES" envDefault:"1MiB" desc:"serve: size of these objects"`
}

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	return errors.Join(
		traffic.ValidRate("TRAFFIC_LOOKUPS", c.Lookups),
		traffic.ValidRate("TRAFFIC_DOWNLOADS", c.Downloads),
		traffic.ValidRate("TRAFFIC_UPLOADS", c.Uploads),
		config.Within("TRAFFIC_BYTES", c.Bytes, 1, 1<<62),
	)
}
