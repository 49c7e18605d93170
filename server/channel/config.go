package channel

import (
	"errors"
	"math"
	"time"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/channel/broker"
)

// maxRetention is for ever, about.
const maxRetention = 100 * 365 * 24 * time.Hour

// Config is where channels are kept, and how. Each value is set by an environment variable, which
// has the prefix of the product and of this service before its name.
type Config struct {
	Dir         string        `env:"DIR" envDefault:"data/channel" desc:"folder of the embedded broker, which one process owns"`
	URL         config.Secret `env:"URL" envDefault:"embedded:" desc:"embedded: or nats://host:4222[,nats://…]"`
	Retention   time.Duration `env:"RETENTION" envDefault:"168h" desc:"how long messages are kept"`
	MaxBytes    config.Bytes  `env:"MAX_BYTES" envDefault:"1GiB" desc:"how much all channels may hold; the oldest messages make room"`
	Prefixes    Prefixes      `env:"PREFIXES" desc:"channels that are kept apart by what their names begin with, in JSON: [{\"prefix\": \"shop/\", \"retention\": \"24h\", \"maxBytes\": \"100MiB\"}]; RETENTION and MAX_BYTES are for all others"`
	DedupWindow time.Duration `env:"DEDUP_WINDOW" envDefault:"2m" desc:"how long a repeated message_id is recognised"`
	Replicas    int           `env:"REPLICAS" envDefault:"1" desc:"how many servers of a NATS cluster keep each message"`
	SyncAlways  bool          `env:"SYNC_ALWAYS" envDefault:"true" desc:"embedded: a receipt says that the message is on the disk; without it a power cut may cost 10 s of messages that have theirs"`
	MaxOpen     int           `env:"MAX_OPEN" envDefault:"20000" desc:"channels with participants on this replica at once"`
	MaxKept     int64         `env:"MAX_KEPT" envDefault:"50000" desc:"channels that have messages; each costs memory as long as one of them is kept"`

	// Limits of the streams, which this package keeps and not the broker.
	MaxParticipants          int           `env:"MAX_PARTICIPANTS" envDefault:"20000" desc:"participants on this replica at once"`
	MaxParticipantsPerCaller int           `env:"MAX_PARTICIPANTS_PER_CALLER" envDefault:"0" desc:"participants of one token or certificate, or else of one address; 0 for half of MAX_PARTICIPANTS"`
	JoinTimeout              time.Duration `env:"JOIN_TIMEOUT" envDefault:"10s" desc:"time for the join to arrive after the headers of an exchange"`
	SendTimeout              time.Duration `env:"SEND_TIMEOUT" envDefault:"30s" desc:"time after which a participant that does not read is sent away; it stands beside RPC_SEND_TIMEOUT because only this one tells it the position from which to join again"`
}

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	return errors.Join(
		config.About("URL", broker.CheckURL(string(c.URL))),
		config.Within("RETENTION", c.Retention, time.Second, maxRetention),
		config.Within("DEDUP_WINDOW", c.DedupWindow, 100*time.Millisecond, c.Retention),
		c.Prefixes.validate(c.DedupWindow),
		config.Within("MAX_OPEN", c.MaxOpen, 1, math.MaxInt32),
		config.Within("MAX_KEPT", c.MaxKept, 1, math.MaxInt32),
		config.Within("MAX_PARTICIPANTS", c.MaxParticipants, 1, math.MaxInt32),
		config.Within("MAX_PARTICIPANTS_PER_CALLER", c.MaxParticipantsPerCaller, 0, c.MaxParticipants),
		config.Within("JOIN_TIMEOUT", c.JoinTimeout, time.Millisecond, time.Hour),
		config.Within("SEND_TIMEOUT", c.SendTimeout, time.Millisecond, time.Hour),
	)
}

// options are what the broker needs of the configuration. The limits of participants are not in it:
// it knows subscriptions only.
func (c Config) options(t *telemetry.Telemetry) broker.Options {
	return broker.Options{
		Name:        t.Namespace,
		Dir:         c.Dir,
		Retention:   c.Retention,
		MaxBytes:    int64(c.MaxBytes),
		DedupWindow: c.DedupWindow,
		Replicas:    c.Replicas,
		SyncAlways:  c.SyncAlways,
		MaxChannels: c.MaxOpen,
		MaxKept:     c.MaxKept,
		Log:         t.Log,
		Registerer:  t.Metrics,
	}
}
