package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	// keySetBytes is the size of the largest key set.
	keySetBytes = 256 << 10
	// maxKeys of a set are more than issuers have: an old one, one in use, and the next.
	maxKeys = 64
	// minRSA is the size in bits that RFC 7518, section 3.3, demands of RSA keys.
	minRSA = 2048
)

// keySet is the public keys of an issuer by their id, the claim kid.
type keySet map[string][]jose.JSONWebKey

// parseKeys reads a JSON Web Key Set. Keys for something else than signatures are left out. So is
// one that cannot be used, which leftOut is about: it must not take away the others, because an
// issuer may have a key of a kind that is new (RFC 7517, section 5).
func parseKeys(content []byte) (keys keySet, leftOut, err error) {
	defer func() { // The process has to outlive any content.
		if value := recover(); value != nil {
			keys, err = nil, fmt.Errorf("cannot be parsed: panic: %v", value)
		}
	}()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(content, &set); err != nil {
		return nil, nil, fmt.Errorf("is no JSON Web Key Set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("has %d keys, more than %d", len(set.Keys), maxKeys)
	}
	keys = keySet{}
	var problems []string
	for i, raw := range set.Keys {
		key, err := parseKey(raw)
		if err != nil {
			problems = append(problems, fmt.Sprintf("keys[%d]: %v", i, err))
		} else if key != nil {
			keys[key.KeyID] = append(keys[key.KeyID], *key)
		}
	}
	if len(problems) > 0 {
		leftOut = errors.New(strings.Join(problems, "; "))
	}
	if len(keys) == 0 {
		return nil, nil, errors.Join(errNoPublicKey, leftOut)
	}
	return keys, leftOut, nil
}

var errNoPublicKey = errors.New(
	"has no public key for signatures by RSA, from 2048 bits on, or by an elliptic curve")

// parseKey returns nil for a key that is not for signatures. No error has a part of a key in it.
func parseKey(raw json.RawMessage) (*jose.JSONWebKey, error) {
	var kind struct {
		Type    string          `json:"kty"`
		Use     string          `json:"use"`
		Private json.RawMessage `json:"d"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, errors.New("is no JSON Web Key")
	}
	if kind.Private != nil || kind.Type == "oct" {
		// Its public half would be there, but others may have the private one by now.
		return nil, errors.New("is a private or a secret key, which only the issuer may have")
	}
	if kind.Use != "" && kind.Use != "sig" {
		return nil, nil
	}
	var key jose.JSONWebKey
	if json.Unmarshal(raw, &key) != nil || !usable(key) {
		return nil, errors.New("is damaged, too short or of a kind that is not known")
	}
	return &key, nil
}

func usable(key jose.JSONWebKey) bool {
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= minRSA
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

// has tells whether a key is one of them.
func (s keySet) has(key jose.JSONWebKey) bool {
	return slices.ContainsFunc(s[key.KeyID],
		func(one jose.JSONWebKey) bool { return reflect.DeepEqual(one, key) })
}

// readKeys reads a key set.
func readKeys(from io.Reader) (keys keySet, leftOut, err error) {
	content, err := io.ReadAll(io.LimitReader(from, keySetBytes+1))
	if err != nil {
		return nil, nil, err
	}
	if len(content) > keySetBytes {
		return nil, nil, fmt.Errorf("is larger than %d bytes", keySetBytes)
	}
	return parseKeys(content)
}

// readFile reads a key set from a file.
func readFile(name string) (keys keySet, leftOut, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	if keys, leftOut, err = readKeys(file); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return keys, leftOut, nil
}
