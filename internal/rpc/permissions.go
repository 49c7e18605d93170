package rpc

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"example.com/quartet/internal/token"
)

// permissions say which callers may call which methods. What no rule allows is denied.
type permissions struct {
	rules []permissionRule
}

// permissionRule allows each of its callers each of its methods.
type permissionRule struct {
	// Callers are names in certificates, "uri:spiffe://example.com/ns/shop/sa/client" or
	// "dns:client.example.com", or in tokens, "jwt:<issuer>#<subject>"; "*" is every caller with a
	// verified certificate or token.
	Callers []string `json:"callers"`
	// Methods are "package.Service/Method", "package.Service/*" for all of a service, or "*".
	Methods []string `json:"methods"`
}

// permissionBytes is the size of the largest file of permissions. A ConfigMap of Kubernetes cannot
// have more.
const permissionBytes = 1 << 20

const (
	uriPrefix = "uri:"
	dnsPrefix = "dns:"
	anything  = "*"
)

// parsePermissions reads JSON, {"allow": [{"callers": […], "methods": […]}]}. Unknown fields, and
// callers or methods of another form, are errors, so that a typo does not take a permission away in
// silence.
func parsePermissions(content []byte) (*permissions, error) {
	if len(content) > permissionBytes {
		return nil, fmt.Errorf("is larger than %d bytes", permissionBytes)
	}
	var list struct {
		Allow []permissionRule `json:"allow"`
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&list); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has something after its end")
	}
	var problems []error
	for i, rule := range list.Allow {
		if err := rule.validate(); err != nil {
			problems = append(problems, fmt.Errorf("allow[%d]: %w", i, err))
		}
	}
	return &permissions{list.Allow}, errors.Join(problems...)
}

func (r permissionRule) validate() error {
	if len(r.Callers) == 0 || len(r.Methods) == 0 {
		return errors.New("needs callers and methods")
	}
	for _, caller := range r.Callers {
		kind, name, _ := strings.Cut(caller, ":")
		known := slices.Contains([]string{uriPrefix, dnsPrefix, token.Prefix}, kind+":")
		if caller != anything && (!known || name == "") {
			return fmt.Errorf("caller %q is none of uri:…, dns:…, jwt:… and *", caller)
		}
		if kind+":" == token.Prefix && !strings.Contains(name, "#") {
			return fmt.Errorf("caller %q has no subject, expected jwt:<issuer>#<subject>", caller)
		}
	}
	for _, method := range r.Methods {
		service, name, ok := strings.Cut(method, "/")
		if method != anything && (!ok || service == "" || name == "" || strings.Contains(name, "/")) {
			return fmt.Errorf("method %q is none of package.Service/Method, package.Service/* and *", method)
		}
	}
	return nil
}

// allow tells whether a caller with these names may call a method, "/package.Service/Method".
func (p *permissions) allow(names []string, fullMethod string) bool {
	method := strings.TrimPrefix(fullMethod, "/")
	service, _, _ := strings.Cut(method, "/")
	for _, rule := range p.rules {
		if rule.has(names) && rule.covers(service, method) {
			return true
		}
	}
	return false
}

func (r permissionRule) has(names []string) bool {
	for _, caller := range r.Callers {
		if caller == anything {
			return true
		}
		for _, name := range names {
			if name == caller {
				return true
			}
		}
	}
	return false
}

func (r permissionRule) covers(service, method string) bool {
	for _, allowed := range r.Methods {
		if allowed == anything || allowed == method || allowed == service+"/"+anything {
			return true
		}
	}
	return false
}

// namesIn are the names of a certificate as permissions spell them. Its subject is none: nothing
// says whose it may be.
func namesIn(cert *x509.Certificate) []string {
	var names []string
	for _, uri := range cert.URIs {
		names = append(names, uriPrefix+uri.String())
	}
	for _, name := range cert.DNSNames {
		names = append(names, dnsPrefix+name)
	}
	return names
}
