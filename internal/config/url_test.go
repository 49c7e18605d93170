package config

import (
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	for _, text := range []string{
		"queue://h", "queue://h/", "queue://h:4222", "QUEUE://h:1", "queue://me:hush@h:4222", "queue://token@h", "queue://a%2Fb:c%40d@h:1", "http://h:80/path",
		"queue://[::1]:4222", "queue://[::1]", "queue://[fe80::1%25eth0]:4222", "queue://10.0.0.1:1", "queue://a_b.c.:1",
	} {
		if u, err := ParseURL(text, "queue", "http"); err != nil || u.Host == "" {
			t.Errorf("%q: %v, %v", text, u, err)
		}
	}
	for text, want := range map[string]string{
		"":                          "has no scheme, expected queue://host:port",
		"h:4222":                    "has no scheme",
		"queue:h:4222":              "has no scheme",
		"://h:4222":                 "has another scheme than queue",
		"tcp://h:4222":              "has another scheme than queue",
		"queue://":                  "has no host",
		"queue:///":                 "has no host",
		"queue://:4222":             "has no host",
		"queue://me:hush@":          "has no host",
		"queue://me:hush@:4222":     "has no host",
		"queue://h:":                "no number from 1 to 65535",
		"queue://h:0":               "no number from 1 to 65535",
		"queue://h:99999":           "no number from 1 to 65535",
		"queue://me:123456789":      "no number from 1 to 65535",
		"queue://me:hush@h:99999":   "no number from 1 to 65535",
		"queue://h:hush":            "percent-encoded",
		"queue://me:hu/sh@h:4222":   "percent-encoded",
		"queue://me:hu sh@h:4222":   "has blanks",
		"queue://me:hu%sh@h:4222":   "percent-encoded",
		" queue://h:4222":           "has blanks",
		"queue://h:4222 ":           "has blanks",
		"queue://h\u00a0h:4222":     "has blanks",
		`"queue://h:4222"`:          "quotes",
		"'queue://h:4222'":          "quotes",
		"queue://h:4222'":           "quotes",
		`"`:                         "quotes",
		`queue://"h":4222`:          "quotes",
		"queue://h'h:4222":          "quotes",
		"queue://a..b:4222":         "neither a host name",
		"queue://256.1.1.1:4222":    "neither a host name",
		"queue://::1:4222":          "",
		"queue://[::1:4222":         "percent-encoded",
		"queue://[::g]:4222":        "",
		"queue://a:1,b:2":           "is a list",
		"queue://bücher.example":    "neither a host name",
		"queue://[fe80::1%eth0]:42": "percent-encoded",
	} {
		_, err := ParseURL(text, "queue")
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
