package origin

import "testing"

func TestNamesHaveToBeKnown(t *testing.T) {
	origins := []string{"https://shop.example.com", "http://Docs.example.com:3000", "*"}
	for host, known := range map[string]bool{
		"127.0.0.1":                 true,
		"192.0.2.1:8080":            true,
		"[::1]:8080":                true,
		"[2001:db8::1]":             true,
		"localhost:8080":            true,
		"LOCALHOST":                 true,
		"shop.localhost:8080":       true,
		"shop.example.com":          true,
		"Shop.Example.com:8080":     true,
		"docs.example.com":          true,
		"evil.example:8080":         false,
		"localhost.evil.example":    false,
		"127.0.0.1.evil.example":    false,
		"notlocalhost":              false,
		"shop.example.com.evil.com": false,
		"":                          false,
		"*":                         false,
	} {
		if got := KnowsHost(host, origins); got != known {
			t.Errorf("%q: got %v", host, got)
		}
	}
}
