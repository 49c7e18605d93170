// Package reload has what all readers of an operator's files do alike, which they read again
// because Kubernetes replaces them: the authorities of certificates, and what to say if it fails.
package reload

import (
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
)

// Authorities reads the certificates to trust from a file, PEM encoded. One without any is an
// error.
func Authorities(name string) (*x509.CertPool, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s: holds no certificate", name)
	}
	return pool, nil
}

// Problem is why something could not be read the last time, empty if it could be. Its user keeps
// other goroutines away from it.
type Problem string

// Note logs an error, unless it is that of the last time: what is looked at every second has one
// line for each reason. Without an error it forgets that there was one.
func (p *Problem) Note(log *slog.Logger, message string, err error) {
	text := Problem("")
	if err != nil {
		text = Problem(err.Error())
	}
	if text != "" && text != *p {
		log.Error(message, "error", string(text))
	}
	*p = text
}
