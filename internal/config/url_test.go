package config

import (
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	for _, text := range []string{
		"nats://h", "nats://h/", "nats://h:4222", "NATS://h:1", "nats://me:hush@h:4222", "nats://token@h", "nats://a%2Fb:c%40d@h:1", "http://h:80/path",
		"nats://[::1]:4222", "nats://[::1]", "nats://[fe80::1%25eth0]:4222", "nats://10.0.0.1:1", "nats://a_b.c.:1",
	} {
		if u, err := ParseURL(text, "nats", "http"); err != nil || u.Host == "" {
			t.Errorf("%q: %v, %v", text, u, err)
		}
	}
	for text, want := range map[string]string{
		"":                         "has no scheme, expected nats://host:port",
		"h:4222":                   "has no scheme",
		"nats:h:4222":              "has no scheme",
		"://h:4222":                "has another scheme than nats",
		"tcp://h:4222":             "has another scheme than nats",
		"nats://":                  "has no host",
		"nats:///":                 "has no host",
		"nats://:4222":             "has no host",
		"nats://me:hush@":          "has no host",
		"nats://me:hush@:4222":     "has no host",
		"nats://h:":                "no number from 1 to 65535",
		"nats://h:0":               "no number from 1 to 65535",
		"nats://h:99999":           "no number from 1 to 65535",
		"nats://me:123456789":      "no number from 1 to 65535",
		"nats://me:hush@h:99999":   "no number from 1 to 65535",
		"nats://h:hush":            "percent-encoded",
		"nats://me:hu/sh@h:4222":   "percent-encoded",
		"nats://me:hu sh@h:4222":   "has blanks",
		"nats://me:hu%sh@h:4222":   "percent-encoded",
		" nats://h:4222":           "has blanks",
		"nats://h:4222 ":           "has blanks",
		"nats://h\u00a0h:4222":     "has blanks",
		`"nats://h:4222"`:          "quotes",
		"'nats://h:4222'":          "quotes",
		"nats://h:4222'":           "quotes",
		`"`:                        "quotes",
		`nats://"h":4222`:          "quotes",
		"nats://h'h:4222":          "quotes",
		"nats://a..b:4222":         "neither a host name",
		"nats://256.1.1.1:4222":    "neither a host name",
		"nats://::1:4222":          "",
		"nats://[::1:4222":         "percent-encoded",
		"nats://[::g]:4222":        "",
		"nats://a:1,b:2":           "is a list",
		"nats://bücher.example":    "neither a host name",
		"nats://[fe80::1%eth0]:42": "percent-encoded",
	} {
		_, err := ParseURL(text, "nats")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
		for _, secret := range []string{"hu", "sh@", "123456789"} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}
