package web

import (
	"strings"
	"testing"
)

func TestOriginsAreWhatBrowsersSend(t *testing.T) {
	for text, problem := range map[string]string{
		"https://a.example.com":                     "",
		"https://a.example.com,http://localhost:80": "",
		" https://a.example.com , https://b:8443 ":  "",
		"*":                     "",
		"*,https://a":           "expected * alone",
		"https://a/":            "did you mean https://a?",
		"https://A.example.com": "did you mean https://a.example.com?",
		"https://user:secret@a": "did you mean https://a?",
		"a.example.com":         "no scheme",
		"ftp://a":               "another scheme",
		"https://*.example.com": "neither a host name",
		"https://a,":            "no scheme",
		"null":                  "no scheme",
		"https://a https://b":   "blanks",
	} {
		var origins Origins
		err := origins.UnmarshalText([]byte(text))
		if (err == nil) != (problem == "") ||
			err != nil && (!strings.Contains(err.Error(), problem) ||
				strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v, want %q", text, err, problem)
		}
	}
}
