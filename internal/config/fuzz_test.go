package config

import (
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// FuzzValues sets a variable of each type: whatever a value is, there is one line about each
// variable that does not take it, which begins with the name, and the others are loaded.
func FuzzValues(f *testing.F) {
	for _, value := range []string{
		"", " ", "1", "8MiB", "1.5KiB", "9223372036854775807", "1e400", "nan", "-0", "1s", "-1ns",
		":50051", "host:1", "[::1]:1", "true", "info", "https://user:password@host?x=y", "a\nb", "user@\n0",
		"\xff",
	} {
		f.Add(value)
	}
	line := regexp.MustCompile(`^SHOP_[A-Z]+=".*": .+$`)
	f.Fuzz(func(t *testing.T, value string) {
		if strings.Contains(value, "\x00") {
			return // No environment has it.
		}
		var all struct {
			Address  Address       `env:"ADDRESS"`
			Bytes    Bytes         `env:"BYTES"`
			Count    int           `env:"COUNT"`
			Duration time.Duration `env:"DURATION"`
			On       bool          `env:"ON"`
			Secret   Secret        `env:"SECRET"`
			Other    string        `env:"OTHER"`
		}
		var environ []string
		for _, variable := range Usage("SHOP_", Group{Into: &all}) {
			environ = append(environ, variable.Name+"="+value)
		}
		environ = append(environ, "SHOP_OTHER=kept")
		if err := Load("SHOP_", environ, Group{Into: &all}); err != nil {
			for text := range strings.SplitSeq(err.Error(), "\n") {
				if !line.MatchString(text) {
					t.Errorf("%q has the line %q", value, text)
				}
			}
		}
		if all.Other != "kept" || string(all.Secret) != strings.TrimSpace(value) {
			t.Errorf("%q: loaded as %q, and beside it %q", value, string(all.Secret), all.Other)
		}
	})
}

// FuzzBytes reads sizes: one that is accepted is not negative, and is read back as it is written.
func FuzzBytes(f *testing.F) {
	for _, size := range []string{"0", "1000", "8MiB", "1.5KiB", "8388607TiB", "-1", "1e3B", "0x10", "1_0"} {
		f.Add(size)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var size, again Bytes
		if size.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(size.String())); err != nil || again != size || size < 0 {
			t.Errorf("%q is %d, written as %q and read as %d, %v", text, size, size, again, err)
		}
	})
}

// FuzzHostPort reads addresses: the net package takes apart what is accepted, and finds no port by
// name.
func FuzzHostPort(f *testing.F) {
	for _, address := range []string{
		"localhost:1", ":65535", "[::1]:1", "[fe80::1%eth0]:1", "[fe80::1%25a]:1", "a..b:1", "1.2.3:1", "a:+1",
		"a:http", "a@b:1", "[]:1", "[a]:1", "::1:1", "[fe80::1% 00]:1",
	} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if CheckHostPort(text, 1) != nil {
			return
		}
		host, port, err := net.SplitHostPort(text)
		if err != nil || strings.Trim(port, "0123456789") != "" || port == "" {
			t.Fatalf("%q has the host %q and the port %q: %v", text, host, port, err)
		}
		if strings.ContainsAny(host, "/@, \t\r\n\"'`?#") {
			t.Errorf("%q has the host %q", text, host)
		}
	})
}

// FuzzURL reads addresses with a password: no error has it in it, however the address is mistyped.
func FuzzURL(f *testing.F) {
	for _, parts := range [][2]string{
		{"user:", ""}, {"", ""}, {"", "/more"}, {"us/er:", ""}, {"user:", "!/x"}, {"[", "/x"}, {"!", "/x"}, {":", "?"},
		{"user:", "#"}, {"a@", ":1"}, {" ", ""}, {"\n", ""}, {"%", ""}, {",", ",/"},
	} {
		f.Add(parts[0], parts[1])
	}
	const password = "h0pefully-secret"
	f.Fuzz(func(t *testing.T, before, after string) {
		u, err := ParseURL("https://"+before+password+after+"@host:4222", "https", "http")
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%q and %q around a password: %v", before, after, err)
		}
		if err == nil && u.Hostname() == "" {
			t.Errorf("%q and %q around a password: no host in %s", before, after, u.Redacted())
		}
	})
}
