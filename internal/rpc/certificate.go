package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"

	"example.com/quartet/internal/telemetry"
)

// certificates tells in metrics from when until when the certificates are valid that this process
// shows to others. It looks at them when it is asked, so that what was renewed is seen without a
// handshake.
type certificates struct {
	begin, end *prometheus.Desc

	mu    sync.Mutex
	sides map[string]*reloading
}

// watchCertificate has the certificate of a side, "server" or "client", told in metrics. A key that
// every user of the machine may read is warned of.
func watchCertificate(
	t *telemetry.Telemetry, cfg TLSConfig, side string, creds credentials.TransportCredentials,
) error {
	files, ok := creds.(*reloading)
	if !ok || cfg.KeyFile == "" {
		return nil
	}
	if info, err := os.Stat(cfg.KeyFile); err == nil && info.Mode().Perm()&0o004 != 0 {
		t.Log.Warn("every user of this machine may read the private key", "file", cfg.KeyFile, "mode",
			info.Mode().Perm())
	}
	c := &certificates{
		begin: prometheus.NewDesc("tls_certificate_not_before_timestamp_seconds",
			"When the certificate that is shown to the other side begins to be valid.", []string{"side"},
			nil),
		end: prometheus.NewDesc("tls_certificate_not_after_timestamp_seconds",
			"When the certificate that is shown to the other side expires, or one of its intermediates if that is sooner.", []string{"side"}, nil),
		sides: map[string]*reloading{},
	}
	if err := t.Metrics.Register(c); err != nil { // Another connection of this process has done so.
		already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
		if !ok {
			return err
		}
		if c, ok = already.ExistingCollector.(*certificates); !ok {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sides[side] = files
	return nil
}

// Describe implements prometheus.Collector.
func (c *certificates) Describe(to chan<- *prometheus.Desc) {
	to <- c.begin
	to <- c.end
}

// Collect implements prometheus.Collector.
func (c *certificates) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for side, files := range c.sides {
		begin, end := files.validity()
		to <- prometheus.MustNewConstMetric(c.begin, prometheus.GaugeValue, float64(begin.Unix()), side)
		to <- prometheus.MustNewConstMetric(c.end, prometheus.GaugeValue, float64(end.Unix()), side)
	}
}

// validity is from when until when the certificate of this process is valid, as its newest files
// have it.
func (r *reloading) validity() (begin, end time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	return r.begin, r.end
}

// validity is from when until when all of a chain is valid.
func validity(config *tls.Config) (begin, end time.Time, err error) {
	for _, pair := range config.Certificates {
		for i, der := range pair.Certificate {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return begin, end, err
			}
			if i == 0 || cert.NotBefore.After(begin) {
				begin = cert.NotBefore
			}
			if i == 0 || cert.NotAfter.Before(end) {
				end = cert.NotAfter
			}
		}
	}
	return begin, end, nil
}
