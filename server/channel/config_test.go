package channel

import (
	"fmt"
	"strings"
	"testing"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

// TestAnAddressThatLeadsNowhereIsAProblemOfTheConfiguration expects the name of the variable, and
// nothing secret.
func TestAnAddressThatLeadsNowhereIsAProblemOfTheConfiguration(t *testing.T) {
	for _, url := range []string{
		"nats://h:99999", "nats://", "nats:4222", "nats://a:1, nats://b:2", "'nats://a:1'",
		"nats://me:hush@", "nats://me:hu/hush@h:4222", "embedded",
	} {
		server := app.Server{Identity: apptest.Identity, Services: []app.Service{Service()}}
		_, err := server.Open(t.Context(), apptest.Environ("TEST_CHANNEL_URL="+url), telemetry.Discard())
		if err == nil || !strings.HasPrefix(err.Error(), "TEST_CHANNEL_URL: ") ||
			strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

// TestPrefixesThatCannotBeAreProblemsOfTheConfiguration expects the name of the variable, and which
// entry is meant.
func TestPrefixesThatCannotBeAreProblemsOfTheConfiguration(t *testing.T) {
	entry := func(prefix, retention, maxBytes string) string {
		return fmt.Sprintf(`{"prefix": %q, "retention": %q, "maxBytes": %q}`, prefix, retention, maxBytes)
	}
	var many []string
	for i := range maxPrefixes + 1 {
		many = append(many, entry(fmt.Sprint(i), "24h", "1GiB"))
	}
	for value, want := range map[string]string{
		"shop/=24h":                 `="shop/=24h": is no JSON list`,
		`{"prefix": "shop/"}`:       "is no JSON list",
		"[] []":                     "has something behind",
		`[{"prefix": "a", "x": 1}]`: `unknown field "x"`,
		"[" + entry("shop/", "1 day", "1GiB") + "]":                                    `in duration "1 day"`,
		"[" + entry("shop/", "24h", "1GB") + "]":                                       `"1GB" is no size`,
		"[" + entry("", "24h", "1GiB") + "]":                                           `: "": prefix must be 1 to 64 bytes`,
		"[" + entry("a\n", "24h", "1GiB") + "]":                                        `: "a\n": prefix must be 1 to 64 bytes`,
		"[" + entry(strings.Repeat("a", 65), "24h", "1GiB") + "]":                      "prefix must be 1 to 64 bytes",
		"[" + entry("shop/", "1s", "1GiB") + "]":                                       `: "shop/": retention=1s: must be between 2m0s and`,
		"[" + entry("shop/", "24h", "0") + "]":                                         `: "shop/": maxBytes=0B: must be between 1MiB and`,
		`[{"prefix": "shop/"}]`:                                                        `: "shop/": retention=0s: must be`,
		"[" + entry("shop/", "24h", "1GiB") + "," + entry("shop/", "1h", "1GiB") + "]": `: "shop/": is there twice`,
		"[" + strings.Join(many, ",") + "]":                                            ": their number=33: must be between 0 and 32",
	} {
		server := app.Server{Identity: apptest.Identity, Services: []app.Service{Service()}}
		_, err := server.Open(t.Context(), apptest.Environ("TEST_CHANNEL_PREFIXES="+value),
			telemetry.Discard())
		if err == nil || !strings.HasPrefix(err.Error(), "TEST_CHANNEL_PREFIXES") ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", value, err, want)
		}
	}
}
