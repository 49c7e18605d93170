package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/channel"
	"example.com/quartet/server/object"
)

// Config is everything that can be set, each by the environment variable QUARTET_<name>.
type Config struct {
	GRPCAddress  string `env:"GRPC_ADDRESS" envDefault:":50051" desc:"where clients call"`
	ProbeAddress string `env:"PROBE_ADDRESS" envDefault:":50052" desc:"where the kubelet asks grpc.health.v1 for liveness and readiness, always in plaintext"`
	HTTPAddress  string `env:"HTTP_ADDRESS" envDefault:":9464" desc:"where /metrics and /debug/pprof/ are"`
	DataDir      string `env:"DATA_DIR" envDefault:"data" desc:"folder of whatever is embedded"`

	Objects   ObjectsConfig    `envPrefix:"OBJECTS_"`
	Channels  ChannelsConfig   `envPrefix:"CHANNELS_"`
	RPC       rpc.ServerConfig `envPrefix:"RPC_"`
	Drain     DrainConfig      `envPrefix:"DRAIN_"`
	Telemetry telemetry.Config
}

// ObjectsConfig is where objects are kept, and how.
type ObjectsConfig struct {
	URL         string        `env:"URL" desc:"gocloud.dev/blob address of the bucket; if empty, the folder objects in the data folder"`
	PartBytes   config.Bytes  `env:"PART_BYTES" envDefault:"8MiB" desc:"how much of an upload is committed at a time"`
	MaxBytes    config.Bytes  `env:"MAX_BYTES" envDefault:"64GiB" desc:"the largest object"`
	ChunkBytes  config.Bytes  `env:"CHUNK_BYTES" envDefault:"1MiB" desc:"how much one message of a download carries"`
	MemoryBytes config.Bytes  `env:"MEMORY_BYTES" envDefault:"0B" desc:"memory for all uploads and downloads together; if 0, half of GOMEMLIMIT, or 512MiB without that"`
	MemoryWait  time.Duration `env:"MEMORY_WAIT" envDefault:"5s" desc:"how long an upload or download waits for memory before it is refused with RESOURCE_EXHAUSTED"`
	QuotaBytes  config.Bytes  `env:"QUOTA_BYTES" envDefault:"0" desc:"how much the store may hold, of objects and of uploads under way; 0 for no limit"`
	UploadTTL   time.Duration `env:"UPLOAD_TTL" envDefault:"168h" desc:"how long an upload is kept that nobody continues"`
	IdleTimeout time.Duration `env:"IDLE_TIMEOUT" envDefault:"2m" desc:"how long an upload may send nothing before its stream is ended (it can be resumed)"`
}

// ChannelsConfig is where channels are kept, and how.
type ChannelsConfig struct {
	URL         string        `env:"URL" envDefault:"embedded:" desc:"embedded: or nats://host:4222[,nats://…]"`
	Retention   time.Duration `env:"RETENTION" envDefault:"168h" desc:"how long messages are kept"`
	MaxBytes    config.Bytes  `env:"MAX_BYTES" envDefault:"1GiB" desc:"how much all channels may hold; the oldest messages make room"`
	DedupWindow time.Duration `env:"DEDUP_WINDOW" envDefault:"2m" desc:"how long a repeated message_id is recognised"`
	Replicas    int           `env:"REPLICAS" envDefault:"1" desc:"how many servers of a NATS cluster keep each message"`
	SyncAlways  bool          `env:"SYNC_ALWAYS" envDefault:"false" desc:"embedded: sync to disk before each receipt, at about a tenth of the rate"`
	MaxOpen     int           `env:"MAX_OPEN" envDefault:"10000" desc:"channels with participants on this replica at once"`
}

// DrainConfig is how long each step of a shutdown may take. The chart computes terminationGracePeriodSeconds from
// the same numbers.
type DrainConfig struct {
	Delay      time.Duration `env:"DELAY" envDefault:"1s" desc:"wait after turning unready, for endpoints and clients to notice"`
	Timeout    time.Duration `env:"TIMEOUT" envDefault:"20s" desc:"how long calls under way may take to end"`
	ScrapeWait time.Duration `env:"SCRAPE_WAIT" envDefault:"0s" desc:"wait at most so long for a last scrape of /metrics"`
}

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	return errors.Join(
		// A message of a download has to fit into the 4 MiB that gRPC clients accept by default.
		within("OBJECTS_CHUNK_BYTES", c.Objects.ChunkBytes, 1, 4<<20-1024),
		within("OBJECTS_PART_BYTES", c.Objects.PartBytes, 64<<10, 1<<30),
		within("OBJECTS_IDLE_TIMEOUT", c.Objects.IdleTimeout, time.Millisecond, 24*time.Hour),
		within("OBJECTS_UPLOAD_TTL", c.Objects.UploadTTL, time.Second, 100*365*24*time.Hour),
		within("CHANNELS_RETENTION", c.Channels.Retention, time.Second, 100*365*24*time.Hour),
		within("CHANNELS_DEDUP_WINDOW", c.Channels.DedupWindow, 100*time.Millisecond, c.Channels.Retention),
		within("DRAIN_TIMEOUT", c.Drain.Timeout, time.Millisecond, 24*time.Hour),
	)
}

func within[N cmp.Ordered](name string, value, least, most N) error {
	if value < least || value > most {
		return fmt.Errorf("%s=%v: must be between %v and %v", name, value, least, most)
	}
	return nil
}

// objectsURL is the bucket's address, by default a folder beside the channels'.
func (c Config) objectsURL() (string, error) {
	if c.Objects.URL != "" {
		return c.Objects.URL, nil
	}
	dir, err := filepath.Abs(filepath.Join(c.DataDir, "objects"))
	return "file://" + filepath.ToSlash(dir), err
}

func (c Config) objectOptions(t *telemetry.Telemetry) object.Options {
	return object.Options{
		PartSize:      int64(c.Objects.PartBytes),
		SpareParts:    c.spareParts(),
		MaxObjectSize: int64(c.Objects.MaxBytes),
		Quota:         int64(c.Objects.QuotaBytes),
		Log:           t.Log,
		Registerer:    t.Registry,
	}
}

func (c Config) channelOptions(t *telemetry.Telemetry) channel.Options {
	return channel.Options{
		Dir:         filepath.Join(c.DataDir, "channels"),
		Retention:   c.Channels.Retention,
		MaxBytes:    int64(c.Channels.MaxBytes),
		DedupWindow: c.Channels.DedupWindow,
		Replicas:    c.Channels.Replicas,
		SyncAlways:  c.Channels.SyncAlways,
		MaxChannels: c.Channels.MaxOpen,
		Log:         t.Log,
		Registerer:  t.Registry,
	}
}
