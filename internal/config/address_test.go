package config

import (
	"strings"
	"testing"
)

func TestHostPort(t *testing.T) {
	for _, text := range []string{
		"localhost:50051", ":50051", "127.0.0.1:1", "[::1]:50051", "[fe80::1%eth0]:65535", "release-server-headless.ns.svc.cluster.local.:50051",
		"my_service:50051", "a1:50051", "1password:50051", "[::ffff:10.0.0.1]:50051",
	} {
		if err := CheckHostPort(text, 1); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"":                                 "has no port",
		"localhost":                        "has no port",
		"localhost:":                       `"" is no port`,
		"50051":                            "did you mean :50051?",
		"localhost:0":                      "from 1 to 65535",
		"localhost:99999":                  `"99999" is no port`,
		"localhost:-1":                     "is no port",
		"localhost:+1":                     "is no port",
		"localhost:1e3":                    "is no port",
		"localhost:grpc":                   `"grpc" is no port`,
		"localhost:https":                  `"https" is no port`,
		"localhost:50051 ":                 "is no port",
		"local host:50051":                 `"local host" is neither`,
		" localhost:50051":                 "is neither",
		"\u00a0localhost:50051":            "is neither",
		"localhost\u200b:50051":            "is neither",
		"bücher.example:50051":             "is neither",
		`"localhost:50051"`:                "quotes",
		"'localhost:50051'":                "quotes",
		"localhost:50051/":                 "slash",
		"tcp://:50051":                     "slash",
		"a:50051,b:50051":                  "is a list",
		"a,b:50051":                        "is a list",
		"::1:50051":                        "did you mean [::1]:50051?",
		"fe80::1:2:50051":                  "did you mean [fe80::1:2]:50051?",
		"::1":                              "brackets",
		"a:50051:50052":                    "as in [::1]:50051",
		"[::1]":                            "is no host:port",
		"[::1]50051":                       "is no host:port",
		"[::1:50051":                       "is no host:port",
		"[::g]:50051":                      `"::g" is neither`,
		"[fe80::1%a b]:50051":              "is neither",
		"[fe80::1%25%61]:50051":            "is neither",
		"10.0.0.256:50051":                 "is neither",
		"10.0.0:50051":                     "is neither",
		"a..b:50051":                       "is neither",
		"user@host:50051":                  "has an @",
		"user:password@host:50051":         "has an @",
		"tcp://user:password@host:50051":   "has an @",
		"host?x=1:50051":                   "is neither",
		strings.Repeat("a", 64) + ":50051": "is neither",
	} {
		if err := CheckHostPort(text, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestAddressesAreCheckedAtStart(t *testing.T) {
	var cfg struct {
		Address Address `env:"ADDRESS" envDefault:":50051"`
	}
	load := func(value string) error { return Load("T_", []string{"T_ADDRESS=" + value}, Group{Into: &cfg}) }
	want := `T_ADDRESS="50051": is a port alone, did you mean :50051?`
	if err := load("50051"); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	for _, value := range []string{"127.0.0.1:0", " :0 ", ":0\n", "\t[::]:0"} {
		if err := load(value); err != nil {
			t.Errorf("%q: %v", value, err)
		}
		if want := Address(strings.TrimSpace(value)); cfg.Address != want {
			t.Errorf("%q became %q", value, cfg.Address)
		}
	}
	if err := load(" "); err != nil || cfg.Address != ":50051" {
		t.Errorf("a blank value: %v, %q", err, cfg.Address)
	}
}
