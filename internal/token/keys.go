package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keySetBytes is the size of the largest key set.
	keySetBytes = 256 << 10
	// mostKeys of a set are more than issuers have: an old one, one in use, and the next.
	mostKeys = 64
	// leastRSA is the size in bits that RFC 7518, section 3.3, demands of RSA keys.
	leastRSA = 2048
)

// keySet is the public keys of an issuer by their id, the claim kid.
type keySet map[string][]jose.JSONWebKey

// parseKeys reads a JSON Web Key Set. Keys that are not for verifying signatures are left out, as
// are those of kinds that are not known, but a private or a secret key is a mistake: it should be
// nowhere but at the issuer.
func parseKeys(content []byte) (keySet, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, fmt.Errorf("is no JSON Web Key Set: %w", err)
	}
	if len(set.Keys) > mostKeys {
		return nil, fmt.Errorf("has %d keys, more than %d", len(set.Keys), mostKeys)
	}
	keys := keySet{}
	for i, raw := range set.Keys {
		var kind struct {
			Type    string          `json:"kty"`
			Use     string          `json:"use"`
			Private json.RawMessage `json:"d"`
		}
		if err := json.Unmarshal(raw, &kind); err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		if kind.Private != nil || kind.Type == "oct" {
			return nil, fmt.Errorf(
				"keys[%d]: is a private or a secret key, which only the issuer may have",
				i,
			)
		}
		var key jose.JSONWebKey
		if kind.Use != "" && kind.Use != "sig" || json.Unmarshal(raw, &key) != nil || !usable(key) {
			continue
		}
		keys[key.KeyID] = append(keys[key.KeyID], key)
	}
	if len(keys) == 0 {
		return nil, errors.New(
			"has no public key for signatures by RSA, from 2048 bits on, or by an elliptic curve",
		)
	}
	return keys, nil
}

func usable(key jose.JSONWebKey) bool {
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= leastRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return key.Valid()
	default:
		return false
	}
}

// find returns the keys by which a token may have been signed. A token need not name its key if the
// issuer has only one (OpenID Connect Core 1.0, section 10.1).
func (s keySet) find(id, algorithm string) (found []jose.JSONWebKey) {
	candidates := s[id]
	if id == "" && len(s) == 1 {
		for _, only := range s {
			candidates = only
		}
	}
	for _, key := range candidates {
		if key.Algorithm == "" || key.Algorithm == algorithm {
			found = append(found, key)
		}
	}
	return found
}

// readFile reads a key set if its content is not old, which it returns with the new one.
func readFile(name string, old []byte) (keySet, []byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, old, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, keySetBytes+1))
	switch {
	case err != nil:
		return nil, old, err
	case len(content) > keySetBytes:
		return nil, old, fmt.Errorf("%s: is larger than %d bytes", name, keySetBytes)
	case old != nil && bytes.Equal(content, old):
		return nil, old, nil
	}
	keys, err := parseKeys(content)
	if err != nil {
		return nil, old, fmt.Errorf("%s: %w", name, err)
	}
	return keys, content, nil
}
