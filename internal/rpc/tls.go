package rpc

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/quartet/internal/reload"
)

// TLSConfig names the files of one side, PEM encoded. They are read again when
// they change, so a certificate is rotated without a restart: new connections
// use it, and the old ones end by the server's connection age.
type TLSConfig struct {
	Mode     string `env:"MODE" envDefault:"off" desc:"off, tls, or mtls where both sides show a certificate"`
	CertFile string `env:"CERT_FILE" desc:"own certificate chain"`
	KeyFile  string `env:"KEY_FILE" desc:"private key of the certificate"`
	CAFile   string `env:"CA_FILE" desc:"authorities to trust; empty means the system's, for clients"`

	certificateOptional bool // with mtls, for clients that have tokens
}

// Validate checks what holds for both sides.
func (c TLSConfig) Validate() error {
	if problem := errors.Join(isFile("CERT_FILE", c.CertFile), isFile("KEY_FILE", c.KeyFile),
		isFile("CA_FILE", c.CAFile)); problem != nil {
		return problem
	}
	switch c.Mode {
	case "", "off", "tls":
		return nil
	case "mtls":
		return errors.Join(c.needCertificate(), needed("CA_FILE", c.CAFile))
	default:
		return fmt.Errorf("MODE=%q: is none of off, tls, mtls", c.Mode)
	}
}

func (c TLSConfig) needCertificate() error {
	return errors.Join(needed("CERT_FILE", c.CertFile), needed("KEY_FILE", c.KeyFile))
}

// isFile refuses the content of a file in place of its name, which an error would show when the
// file cannot be opened.
func isFile(name, value string) error {
	if strings.Contains(value, "-----BEGIN") || strings.Contains(value, "\n") {
		return fmt.Errorf("%s: has the content of a file, expected its name", name)
	}
	return nil
}

func needed(name, value string) error {
	if value != "" {
		return nil
	}
	return fmt.Errorf("%s: is needed with this TLS mode", name)
}

func (c TLSConfig) server(log *slog.Logger) (credentials.TransportCredentials, error) {
	return c.credentials(log, c.serverConfig)
}

func (c TLSConfig) client(log *slog.Logger) (credentials.TransportCredentials, error) {
	return c.credentials(log, c.clientConfig)
}

func (c TLSConfig) credentials(
	log *slog.Logger, read func() (*tls.Config, error),
) (credentials.TransportCredentials, error) {
	if c.Mode == "" || c.Mode == "off" {
		return insecure.NewCredentials(), nil
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	creds, err := newReloading(log, read, c.CertFile, c.KeyFile, c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return creds, nil
}

func (c TLSConfig) serverConfig() (*tls.Config, error) {
	config, err := c.withCertificate()
	if err != nil || c.Mode != "mtls" {
		return config, err
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	if c.certificateOptional {
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	config.ClientCAs, err = reload.Authorities(c.CAFile)
	return config, err
}

func (c TLSConfig) clientConfig() (config *tls.Config, err error) {
	config = &tls.Config{MinVersion: tls.VersionTLS13}
	if c.Mode == "mtls" {
		if config, err = c.withCertificate(); err != nil {
			return nil, err
		}
		// Without this Go shows no certificate to a server that names other authorities, and the
		// server's refusal could not say what is wrong with it.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &config.Certificates[0], nil
		}
	}
	if c.CAFile != "" {
		config.RootCAs, err = reload.Authorities(c.CAFile)
	}
	return config, err
}

// withCertificate begins a configuration. Only TLS 1.3 is spoken: both ends
// are ours.
func (c TLSConfig) withCertificate() (*tls.Config, error) {
	if err := c.needCertificate(); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}, nil
}
