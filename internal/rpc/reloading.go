package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// reloading is TLS whose files are looked at before every handshake. Doing it
// around a whole handshake rather than in tls.Config's callbacks covers the
// authorities that a client trusts as well, for which there is no callback.
type reloading struct {
	log   *slog.Logger
	read  func() (*tls.Config, error)
	files []string

	mu      sync.Mutex
	changed []time.Time // of each file, when it was read
	current credentials.TransportCredentials
}

// newReloading reads the files once, so that a wrong path ends the start of
// the process and not its first handshake. Empty names are left out.
func newReloading(log *slog.Logger, read func() (*tls.Config, error), files ...string) (*reloading, error) {
	files = slices.DeleteFunc(files, func(file string) bool { return file == "" })
	r := &reloading{log: log, read: read, files: files}
	var err error
	if r.changed, err = r.changes(); err != nil {
		return nil, err
	}
	config, err := read()
	if err != nil {
		return nil, err
	}
	r.current = credentials.NewTLS(config)
	return r, nil
}

// newest returns the newest credentials that could be read. While a rotation is
// half written the old ones stay in use, and the next handshake tries again.
func (r *reloading) newest() credentials.TransportCredentials {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.reload(); err != nil {
		r.log.Error("TLS files not reloaded", "error", err)
	}
	return r.current
}

func (r *reloading) reload() error {
	changed, err := r.changes()
	if err != nil || slices.EqualFunc(changed, r.changed, time.Time.Equal) {
		return err
	}
	config, err := r.read()
	if err != nil {
		return err
	}
	r.current, r.changed = credentials.NewTLS(config), changed
	r.log.Info("TLS files reloaded", "files", r.files)
	return nil
}

func (r *reloading) changes() ([]time.Time, error) {
	var changed []time.Time
	for _, file := range r.files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		changed = append(changed, info.ModTime())
	}
	return changed, nil
}

func (r *reloading) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return r.newest().ClientHandshake(ctx, authority, conn)
}

func (r *reloading) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return r.newest().ServerHandshake(conn)
}

func (r *reloading) Info() credentials.ProtocolInfo { return r.newest().Info() }

// Clone returns the same credentials: they hold nothing of one connection.
func (r *reloading) Clone() credentials.TransportCredentials { return r }

// OverrideServerName is deprecated in grpc-go, which has an option instead.
func (r *reloading) OverrideServerName(string) error {
	return errors.New("use grpc.WithAuthority to override the server name")
}
