package object

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"example.com/quartet/internal/config"
	"example.com/quartet/server/object/engine"
	"example.com/quartet/server/object/folder"
	"example.com/quartet/server/object/s3"
)

// Config is where objects are kept, and how, and what callers may take. Each value is set by an
// environment variable, which has the prefix of the product and of this service before its name.
type Config struct {
	Dir             string        `env:"DIR" envDefault:"data/object" desc:"folder of objects, which one process owns"`
	URL             config.Secret `env:"URL" desc:"address of a bucket to use in place of the folder: s3://bucket?region=…, with endpoint and use_path_style; the rest is as the AWS SDK finds it"`
	Proxy           bool          `env:"PROXY" envDefault:"false" desc:"reach S3 through the proxy that HTTPS_PROXY or HTTP_PROXY names, unless NO_PROXY excepts it"`
	PartBytes       config.Bytes  `env:"PART_BYTES" envDefault:"8MiB" desc:"how much of an upload is committed at a time; AWS wants at least 5MiB"`
	MaxBytes        config.Bytes  `env:"MAX_BYTES" envDefault:"64GiB" desc:"the largest object"`
	ChunkBytes      config.Bytes  `env:"CHUNK_BYTES" envDefault:"1MiB" desc:"how much one message of a download carries"`
	MemoryBytes     config.Bytes  `env:"MEMORY_BYTES" envDefault:"0B" desc:"memory for all uploads and downloads together; if 0, half of GOMEMLIMIT, or 512MiB without that"`
	MemoryWait      time.Duration `env:"MEMORY_WAIT" envDefault:"5s" desc:"how long an upload or download waits for memory before it is refused with RESOURCE_EXHAUSTED"`
	QuotaBytes      config.Bytes  `env:"QUOTA_BYTES" envDefault:"0" desc:"how much may be stored, of objects and, in a folder, of uploads under way, with 16KiB for each file; 0 for no limit"`
	UploadTTL       time.Duration `env:"UPLOAD_TTL" envDefault:"168h" desc:"how long an upload is kept that no client continues"`
	MaxUploads      int           `env:"MAX_UPLOADS" envDefault:"10000" desc:"how many uploads may be under way or unfinished"`
	CallerUploads   int           `env:"CALLER_UPLOADS" envDefault:"1000" desc:"how many of them may be of one caller"`
	CallerTransfers int           `env:"CALLER_TRANSFERS" envDefault:"256" desc:"how many uploads and downloads one caller may have at once"`
	Lists           int           `env:"LISTS" envDefault:"4" desc:"how many lists are made at once, one of each caller"`
	IdleTimeout     time.Duration `env:"IDLE_TIMEOUT" envDefault:"2m" desc:"how long an upload may send nothing, or less than 64 bytes in a second, before its stream is ended (it can be resumed)"`
}

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	return errors.Join(
		config.About("URL", c.checkURL()),
		// A message of a download has to fit into the 4 MiB that gRPC clients accept by default.
		config.Within("CHUNK_BYTES", c.ChunkBytes, 1, 4<<20-1024),
		// Parts are at least two blocks of a folder. S3 allows 5 GiB, but each upload holds one in
		// memory.
		config.Within("PART_BYTES", c.PartBytes, 64<<10, 1<<30),
		config.Within("IDLE_TIMEOUT", c.IdleTimeout, time.Millisecond, 24*time.Hour),
		config.Within("MAX_UPLOADS", c.MaxUploads, 1, 10_000_000),
		config.Within("CALLER_UPLOADS", c.CallerUploads, 1, 10_000_000),
		config.Within("CALLER_TRANSFERS", c.CallerTransfers, 1, 1_000_000),
		config.Within("LISTS", c.Lists, 1, 1000),
		config.Within("UPLOAD_TTL", c.UploadTTL, time.Second, 100*365*24*time.Hour),
	)
}

// checkURL checks the bucket's URL, and that the largest object has no more parts than S3 allows.
// One part is left for the trailer.
func (c Config) checkURL() error {
	if c.URL == "" {
		return nil
	}
	if most := c.PartBytes * (s3.MaxParts - 1); c.MaxBytes > most {
		return fmt.Errorf("S3 has at most %d parts, so that objects of %v need a larger PART_BYTES than %v",
			s3.MaxParts, c.MaxBytes, c.PartBytes)
	}
	return s3.CheckURL(string(c.URL))
}

// openEngine opens the folder, or the bucket if there is one. An error that the operator can mend
// in the configuration is a config.Problem, with which the process ends with status 2.
func (c Config) openEngine(
	ctx context.Context, log *slog.Logger, quota *engine.Quota,
) (engine.Engine, error) {
	if c.URL == "" {
		return folder.Open(c.Dir, folder.Options{PartBytes: int64(c.PartBytes), Quota: quota, Log: log})
	}
	opened, err := s3.Open(ctx, string(c.URL), s3.Options{
		PartBytes: int64(c.PartBytes), SpareParts: c.spareParts(), Quota: quota, Proxy: c.Proxy, Log: log,
	})
	if errors.Is(err, s3.ErrURL) {
		return nil, config.Problem(config.About("URL", err))
	}
	return opened, err
}
