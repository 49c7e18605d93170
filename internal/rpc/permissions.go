package rpc

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"example.com/quartet/internal/token"
)

// permissions say which callers may call which methods, and with which names. What no rule allows
// is denied.
type permissions struct {
	rules []permissionRule
	// restrictNames says that a rule has names, without which no call needs to remember its caller.
	restrictNames bool
}

// permissionRule allows each of its callers each of its methods.
type permissionRule struct {
	// Callers are names in certificates, "uri:spiffe://example.com/ns/shop/sa/client" or
	// "dns:client.example.com", or in tokens, "jwt:<issuer>#<subject>"; "*" is every caller with a
	// verified certificate or token.
	Callers []string `json:"callers"`
	// Methods are "package.Service/Method", "package.Service/*" for all of a service, or "*".
	Methods []string `json:"methods"`
	// Names are patterns by kind of name, {"object": ["shop/*"]}: all names of these kinds that a call
	// uses have to match. A kind that is not there is not restricted by this rule.
	Names namePatterns `json:"names,omitempty"`
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
// callers, methods or names of another form, are errors, so that a typo neither takes a permission
// away in silence nor gives one.
func parsePermissions(content []byte, kinds nameKinds) (*permissions, error) {
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
	p := &permissions{rules: list.Allow}
	var problems []error
	for i, rule := range list.Allow {
		if err := cmp.Or(rule.validate(), rule.validateNames(kinds)); err != nil {
			problems = append(problems, fmt.Errorf("allow[%d]: %w", i, err))
		}
		p.restrictNames = p.restrictNames || rule.Names != nil
	}
	return p, errors.Join(problems...)
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

// allow tells whether a caller with these names may call a method, "/package.Service/Method", with
// all that the call uses. One rule has to allow it as a whole: what two rules allow in part could
// be a combination that neither was written for.
func (p *permissions) allow(callers []string, fullMethod string, used []usedName) bool {
	method := strings.TrimPrefix(fullMethod, "/")
	service, _, _ := strings.Cut(method, "/")
	for _, rule := range p.rules {
		if rule.has(callers) && rule.covers(service, method) && rule.Names.match(used) {
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
