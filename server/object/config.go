package object

import (
	"errors"
	"path/filepath"
	"time"

	"example.com/quartet/internal/config"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/object/store"
)

// Config is where objects are kept, and how, each value by an environment variable.
type Config struct {
	Dir         string        `env:"DIR" envDefault:"data/object" desc:"folder of objects, which one process owns"`
	URL         config.Secret `env:"URL" desc:"gocloud.dev/blob address of a bucket to use in place of the folder: s3://bucket?region=…"`
	Proxy       bool          `env:"PROXY" envDefault:"false" desc:"reach S3 through the proxy that HTTPS_PROXY or HTTP_PROXY names, unless NO_PROXY excepts it"`
	PartBytes   config.Bytes  `env:"PART_BYTES" envDefault:"8MiB" desc:"how much of an upload is committed at a time"`
	MaxBytes    config.Bytes  `env:"MAX_BYTES" envDefault:"64GiB" desc:"the largest object"`
	ChunkBytes  config.Bytes  `env:"CHUNK_BYTES" envDefault:"1MiB" desc:"how much one message of a download carries"`
	MemoryBytes config.Bytes  `env:"MEMORY_BYTES" envDefault:"0B" desc:"memory for all uploads and downloads together; if 0, half of GOMEMLIMIT, or 512MiB without that"`
	MemoryWait  time.Duration `env:"MEMORY_WAIT" envDefault:"5s" desc:"how long an upload or download waits for memory before it is refused with RESOURCE_EXHAUSTED"`
	QuotaBytes  config.Bytes  `env:"QUOTA_BYTES" envDefault:"0" desc:"how much the store may hold, of objects and of uploads under way; 0 for no limit"`
	UploadTTL   time.Duration `env:"UPLOAD_TTL" envDefault:"168h" desc:"how long an upload is kept that no client continues"`
	IdleTimeout time.Duration `env:"IDLE_TIMEOUT" envDefault:"2m" desc:"how long an upload may send nothing before its stream is ended (it can be resumed)"`
}

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	return errors.Join(
		config.About("URL", c.checkURL()),
		// A message of a download has to fit into the 4 MiB that gRPC clients accept by default.
		config.Within("CHUNK_BYTES", c.ChunkBytes, 1, 4<<20-1024),
		config.Within("PART_BYTES", c.PartBytes, 64<<10, 1<<30),
		config.Within("IDLE_TIMEOUT", c.IdleTimeout, time.Millisecond, 24*time.Hour),
		config.Within("UPLOAD_TTL", c.UploadTTL, time.Second, 100*365*24*time.Hour),
	)
}

func (c Config) checkURL() error {
	if c.URL == "" {
		return nil
	}
	return store.CheckURL(string(c.URL))
}

// url is the bucket's address, by default the folder's.
func (c Config) url() (string, error) {
	if c.URL != "" {
		return string(c.URL), nil
	}
	dir, err := filepath.Abs(c.Dir)
	return "file://" + filepath.ToSlash(dir), err
}

func (c Config) options(t *telemetry.Telemetry) store.Options {
	return store.Options{
		PartSize:      int64(c.PartBytes),
		SpareParts:    c.spareParts(),
		MaxObjectSize: int64(c.MaxBytes),
		Quota:         int64(c.QuotaBytes),
		Proxy:         c.Proxy,
		Log:           t.Log,
		Registerer:    t.Metrics,
	}
}
