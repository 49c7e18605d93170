// Package tokentest issues tokens within tests.
package tokentest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Name and Audience are those of an issuer in tests.
const (
	Name     = "https://issuer.example.com"
	Audience = "servers"
)

// Issuer signs tokens by ES256. Its keys are in File.
type Issuer struct {
	File string
	Key  *ecdsa.PrivateKey // with which it signs
	ID   string            // of that key

	turn int
}

// New is an issuer with one key.
func New(tb testing.TB) *Issuer {
	tb.Helper()
	i := &Issuer{File: filepath.Join(tb.TempDir(), "jwks.json")}
	i.Rotate(tb)
	return i
}

// Rotate replaces the key, of which the file has nothing any more.
func (i *Issuer) Rotate(tb testing.TB) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	i.turn++
	i.Key, i.ID = key, fmt.Sprintf("key-%d", i.turn)
	i.Write(tb, i.Keys(tb))
}

// Keys are the key set.
func (i *Issuer) Keys(tb testing.TB) []byte {
	tb.Helper()
	public := jose.JSONWebKey{
		Key:       i.Key.Public(),
		KeyID:     i.ID,
		Algorithm: string(jose.ES256),
		Use:       "sig",
	}
	content, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
	if err != nil {
		tb.Fatal(err)
	}
	return content
}

// Write replaces the file whole, as Kubernetes does.
func (i *Issuer) Write(tb testing.TB, content []byte) {
	tb.Helper()
	next := i.File + ".next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(next, i.File); err != nil {
		tb.Fatal(err)
	}
}

// Claims are those of a valid token for an hour.
func Claims(subject string) jwt.Claims {
	return jwt.Claims{
		Issuer: Name, Subject: subject, Audience: jwt.Audience{Audience},
		Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}
}

// Token is a valid token of a subject.
func (i *Issuer) Token(tb testing.TB, subject string) string {
	tb.Helper()
	return i.Sign(tb, Claims(subject))
}

// Sign signs claims.
func (i *Issuer) Sign(tb testing.TB, claims any) string {
	tb.Helper()
	return Sign(tb, jose.ES256, jose.JSONWebKey{Key: i.Key, KeyID: i.ID}, claims)
}

// Sign signs claims by an algorithm with a key.
func Sign(tb testing.TB, algorithm jose.SignatureAlgorithm, key, claims any) string {
	tb.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		tb.Fatal(err)
	}
	return token
}
