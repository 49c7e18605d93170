package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"example.com/quartet/internal/origin"
)

// access decides which requests may use a console.
type access struct {
	// token admits to everything; without one, every request does. readToken admits to reading, "" if
	// there is none.
	token, readToken string
	origins          []string // scheme://host[:port], in lower case
}

// rights are what a request may do.
type rights int

const (
	// The order counts: a right includes those below it.
	nothing rights = iota
	reading        // look, and call methods without side effects
	everything
)

// newAccess reads the tokens and the list of origins from the configuration.
func newAccess(cfg Config) (access, error) {
	a := access{token: string(cfg.Token), readToken: string(cfg.ReadToken)}
	for origin := range strings.SplitSeq(cfg.Origins, ",") {
		origin = strings.ToLower(strings.TrimSpace(origin))
		if origin == "" {
			continue
		}
		u, err := url.Parse(origin)
		// An origin is scheme, host and port alone (RFC 6454): a browser never sends a path with it, so
		// that an entry with one would never match.
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
			u.Scheme+"://"+u.Host != origin {
			return a, fmt.Errorf(
				"ORIGINS: %q is no origin, expected https://host or https://host:port",
				origin,
			)
		}
		a.origins = append(a.origins, origin)
	}
	return a, nil
}

// knowsHost tells whether a request may be for this console, because a page elsewhere cannot have
// the name that it was made to. With a token names need no check: such a page has none.
func (a access) knowsHost(r *http.Request) bool {
	return a.token != "" || origin.KnowsHost(r.Host, a.origins)
}

// sameOrigin tells whether a request does not come from a page that is not the console's own or
// among the origins. Programs that are no browsers send no Origin.
func (a access) sameOrigin(r *http.Request) bool {
	// A browser sets Origin for each WebSocket and for each request that is not GET or HEAD, and no
	// page can change it.
	origin := strings.ToLower(r.Header.Get("Origin"))
	if origin == "" {
		// Browsers leave Origin out of simple GETs, but say in this header where the page came from.
		return r.Header.Get("Sec-Fetch-Site") != "cross-site"
	}
	// An Origin is the console's own if it has the host that the request was made to.
	u, err := url.Parse(origin)
	// Origin is "null" for a page from a file or a sandbox, which has no host.
	return err == nil && u.Host != "" && u.Host == strings.ToLower(r.Host) ||
		slices.Contains(a.origins, origin)
}

// bearerProtocol begins the WebSocket subprotocol that has the token, because a browser's WebSocket
// has no other header that a page can set: "bearer." and the token in base64url without padding.
const bearerProtocol = "bearer."

// of returns what a request may do.
func (a access) of(r *http.Request) rights {
	if a.token == "" {
		return everything
	}
	token := bearer(r)
	switch {
	case same(token, a.token):
		return everything
	case a.readToken != "" && same(token, a.readToken), a.admits(r, time.Now()):
		return reading
	default:
		return nothing
	}
}

// bearer returns the token of a request, from its Authorization header or from the subprotocols of
// a WebSocket; "" if it has none.
func bearer(r *http.Request) string {
	if scheme, token, found := strings.Cut(r.Header.Get("Authorization"), " "); found &&
		strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(token)
	}
	for protocol := range strings.SplitSeq(r.Header.Get("Sec-WebSocket-Protocol"), ",") {
		if encoded, found := strings.CutPrefix(strings.TrimSpace(protocol), bearerProtocol); found {
			token, _ := base64.RawURLEncoding.DecodeString(encoded) // What is damaged is no token.
			return string(token)
		}
	}
	return ""
}

// same compares in a time that tells nothing of the token, not even its length.
func same(a, b string) bool {
	// Comparing hashes of one length hides the length, and ConstantTimeCompare the first difference.
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// ticketLife is how long a ticket admits. A browser continues a download that breaks by the same
// address, as after each rollout of the client, so it covers downloads of many hours. A ticket
// reads one path only, and the token that gives it has no end.
const ticketLife = 24 * time.Hour

// ticket admits one that may read to a single path and its query, so that the browser can download
// what a page links to: a link has no header for the token. All clients with the same token accept
// it.
func (a access) ticket(path string, now time.Time) (string, error) {
	u, err := url.Parse(path)
	if err != nil {
		return "", err
	}
	// A ticket is 8 bytes of time, in seconds since 1970, and the seal over it.
	expiry := binary.BigEndian.AppendUint64(nil, uint64(now.Add(ticketLife).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(expiry, a.seal(expiry, u)...)), nil
}

// seal is what only a process that knows the token can make.
func (a access) seal(expiry []byte, u *url.URL) []byte {
	query := u.Query()
	// The ticket is part of the query that it is for, and cannot be sealed into itself.
	query.Del("ticket")
	// The text before the token makes the key differ from the hash that same uses.
	key := sha256.Sum256([]byte("ticket " + a.token))
	mac := hmac.New(sha256.New, key[:])
	mac.Write(expiry)
	// Encode sorts the query, so that a browser may send its parameters in another order.
	mac.Write([]byte(u.EscapedPath() + "?" + query.Encode()))
	return mac.Sum(nil)
}

// admits tells whether a request has a ticket for what it wants to read.
func (a access) admits(r *http.Request, now time.Time) bool {
	// A ticket that is missing decodes to nothing, and is too short.
	ticket, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("ticket"))
	// A ticket is for reading panels, and never for the calls of the bridge.
	if err != nil || len(ticket) < 8 || !isRead(r) || !strings.HasPrefix(r.URL.Path, panelsPath) {
		return false
	}
	expiry, seal := ticket[:8], ticket[8:]
	// The seal is checked first: only then the time in the ticket is one that a client has written.
	return hmac.Equal(seal, a.seal(expiry, r.URL)) &&
		now.Before(time.Unix(int64(binary.BigEndian.Uint64(expiry)), 0))
}

// protected answers requests of pages that may ask, with the token if there is one.
func (c *Console) protected(
	handle func(http.ResponseWriter, *http.Request, rights),
) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// Without this a page elsewhere could use the rights of a person's browser, which reaches ports
		// that the page's server does not.
		if !c.access.sameOrigin(r) {
			http.Error(w, "pages of this origin may not use the console", http.StatusForbidden)
			return
		}
		granted := c.access.of(r)
		if granted == nothing {
			// HTTP asks for this header with 401 (RFC 9110, section 15.5.2).
			w.Header().Set("WWW-Authenticate", `Bearer realm="console"`)
			http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
			return
		}
		// What the answer says is for the one that had the token, and not for a cache.
		w.Header().Set("Cache-Control", "no-store")
		handle(w, r, granted)
	}
}
