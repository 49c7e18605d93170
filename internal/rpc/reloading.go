package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"example.com/quartet/internal/reload"
)

// reloading is TLS whose files are looked at before every handshake. Doing it
// around a whole handshake rather than in tls.Config's callbacks covers the
// authorities that a client trusts as well, for which there is no callback.
type reloading struct {
	log   *slog.Logger
	read  func() (*tls.Config, error)
	files []string

	mu      sync.Mutex
	problem reload.Problem // with the files
	content [][]byte       // of each file, when it was read
	config  *tls.Config
	current credentials.TransportCredentials
	// begin and end are from when until when all of the own chain is valid.
	begin, end time.Time
	version    int // of the files, counted up when they have changed
}

// newReloading reads the files once, so that a wrong path ends the start of
// the process and not its first handshake. Empty names are left out.
func newReloading(
	log *slog.Logger, read func() (*tls.Config, error), files ...string,
) (*reloading, error) {
	files = slices.DeleteFunc(files, func(file string) bool { return file == "" })
	r := &reloading{log: log, read: read, files: files}
	if err := r.reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// newest returns the newest credentials that could be read. While a rotation is half written the
// old ones stay in use, and the next handshake tries again. What is wrong is logged once, however
// many connections come meanwhile.
func (r *reloading) newest() credentials.TransportCredentials {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	return r.current
}

// newestConfig is the same for what has no use for gRPC's credentials. It must not be changed.
func (r *reloading) newestConfig() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	return r.config
}

// look reads the files if they have changed. The caller holds the lock.
func (r *reloading) look() {
	r.problem.Note(r.log, "TLS files not reloaded", r.reload())
}

func (r *reloading) reload() error {
	content, err := r.contents()
	if err != nil || r.config != nil && slices.EqualFunc(content, r.content, bytes.Equal) {
		return err
	}
	config, err := r.read()
	if err != nil {
		return err
	}
	begin, end, err := validity(config)
	if err != nil {
		return err
	}
	if r.config != nil {
		r.log.Info("TLS files reloaded", "files", r.files)
	}
	r.config, r.current, r.content = config, credentials.NewTLS(config), content
	r.begin, r.end = begin, end
	r.version++
	return nil
}

// authorities are those that certificates of clients have to be from, and their version, which
// changes with them.
func (r *reloading) authorities() (*x509.CertPool, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config.ClientCAs, r.version
}

// contents reads the files. Their times do not tell: a file may be replaced by one of the same
// time, as by tar and rsync.
func (r *reloading) contents() ([][]byte, error) {
	contents := make([][]byte, len(r.files))
	for i, file := range r.files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		contents[i] = content
	}
	return contents, nil
}

func (r *reloading) ClientHandshake(
	ctx context.Context, authority string, conn net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	return r.newest().ClientHandshake(ctx, authority, conn)
}

func (r *reloading) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	raw := &lingering{Conn: conn}
	secured, info, err := r.newest().ServerHandshake(raw)
	raw.established.Store(err == nil)
	return secured, info, err
}

// Info is the same for all versions of the files.
func (r *reloading) Info() credentials.ProtocolInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current.Info()
}

// Clone returns the same credentials: they hold nothing of one connection.
func (r *reloading) Clone() credentials.TransportCredentials { return r }

// OverrideServerName is deprecated in grpc-go, which has an option instead.
func (r *reloading) OverrideServerName(string) error {
	return errors.New("use grpc.WithAuthority to override the server name")
}
