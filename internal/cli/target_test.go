package cli_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/cli/clitest"
)

func TestTargets(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:50051":            "",
		":50051":                     "",
		"[::1]:50051":                "",
		"release-server-headless:1":  "",
		"dns:///localhost:50051":     "",
		"DNS:///localhost:50051":     "",
		"dns:localhost:50051":        "dns:///localhost:50051",
		"dns://10.0.0.10/host:50051": "",
		"dns:///[::1]:50051":         "",
		"passthrough:///host:50051":  "",
		"unix:///run/server.sock":    "",
		"unix:server.sock":           "",
		"unix-abstract:server":       "",
		"ipv4:127.0.0.1:50051":       "127.0.0.1:50051",
		"dns://10.0.0.10:5353/h:1":   "",
		"dns://[::1]:53/h:1":         "",
		"dns://[::1]/h:1":            "",
		"dns:localhost:1":            "dns:///localhost:1",

		"[fe80::1%eth0]:50051":          "[fe80::1%25eth0]:50051",
		"[fe80::1%25eth0]:50051":        "",
		"dns:///[fe80::1%eth0]:50051":   "dns:///[fe80::1%25eth0]:50051",
		"dns:///[fe80::1%25eth0]:50051": "",
		"dns:[fe80::1%eth0]:50051":      "dns:///[fe80::1%25eth0]:50051",
		"passthrough:///[fe80::1%lo]:1": "passthrough:///[fe80::1%25lo]:1",
		"ipv6:[fe80::1%eth0]:50051":     "[fe80::1%25eth0]:50051",
		"ipv6:[fe80::1%25eth0]:50051":   "[fe80::1%25eth0]:50051",
		"dns://[fe80::1%eth0]:53/h:1":   "dns://[fe80::1%25eth0]:53/h:1",
		"IPv4:127.0.0.1:50051":          "127.0.0.1:50051",
		"ipv6:[::1]:50051":              "[::1]:50051",
	} {
		if want == "" {
			want = text
		}
		got, err := cli.ParseTarget(text)
		if err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v", text, got, err)
			continue
		}
		conn, err := grpc.NewClient(string(got), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Errorf("%q: gRPC says: %v", text, err)
			continue
		}
		_ = conn.Close()
	}
}

// TestMistypedTargets tries what gRPC would look for in DNS until the end of time, by the
// environment and by the flag.
func TestMistypedTargets(t *testing.T) {
	for text, want := range map[string]string{
		`"localhost:50051"`:        "quotes",
		"'localhost:50051'":        "quotes",
		"localhost:50051/":         "slash",
		"dns:///localhost:50051/":  "slash",
		"dns://localhost:50051":    "did you mean dns:///localhost:50051?",
		"dns:localhost":            "has no port",
		"dns:///":                  "has no port",
		"dns:///localhost":         "has no port",
		"dns:///local host:1":      "is neither",
		"dns:///localhost:grpc":    "is no port",
		"dns:///localhost:1?x=y":   "must not have a ? or #",
		"passthrough:///localhost": "has no port",
		"localhost":                "has no port",
		"localhost:":               "is no port",
		"50051":                    "is a port alone",
		"a:50051,b:50051":          "is a list",
		"dns:///a:50051,b:50051":   "is a list",
		"ipv4:a:50051":             "is no address and port of ipv4",
		"ipv4:127.0.0.1":           "is no address and port of ipv4",
		"ipv4:127.0.0.1:99999":     "is no address and port of ipv4",
		"ipv4:[::1]:50051":         "is no address and port of ipv4",
		"ipv4:1.1.1.1:1,1.1.1.1:2": "is no address and port of ipv4",
		"localhost:99999":          "is no port",
		"localhost:0":              "is no port",
		"localhost:grpc":           "is no port",
		"::1:50051":                "did you mean [::1]:50051?",
		"local\thost:50051":        "is neither",
		"dns://me@localhost/a:1":   "has a user",
		"dns:///me@localhost:1":    "has an @",
		"http://localhost:50051":   "gRPC knows no http://",
		"HTTPS://localhost:50051":  "gRPC knows no https://",
		"http:localhost:50051":     "more than one colon",

		"dns://8.8.8.8:99999/name:1": "the DNS server 8.8.8.8:99999",
		"dns://8.8.8.8:0/name:1":     "the DNS server 8.8.8.8:0",
		"dns://256.1.1.1/name:1":     "is neither",
		"dns://a..b/name:1":          "the DNS server a..b",
		"dns://me:x@8.8.8.8/name:1":  "a user in it",
		"dns://8.8.8.8/":             "did you mean",
		"[fe80::1%]:50051":           "is neither",
		"[fe80::g%eth0]:50051":       "is neither",
		"[fe80::1%%0X]:50051":        "is neither",
		"dns:[fe80::1%25%2541]:1":    "is neither",
		"[fe80::1%eth0]":             "is no host:port",
		"10.0.0.1%eth0:50051":        "is neither",
		"unix:":                      "has no socket",
		"unix://":                    "has no socket",
		"unix:///":                   "has no socket",
		"unix:///run/":               "has no socket",
		"unix://run/server.sock":     "did you mean unix:///run/server.sock?",
		"unix-abstract:":             "has no socket",
		"unix:///run/server.sock?x":  "must not have a ? or #",
	} {
		for name, run := range map[string]func(*clitest.Terminal) int{
			"TEST_SERVER": func(c *clitest.Terminal) int {
				c.Environ = []string{"TEST_SERVER=" + text}
				return c.Run(t.Context(), "", "find", "x")
			},
			"TEST_NAMES_SERVER": func(c *clitest.Terminal) int {
				c.Environ = []string{"TEST_NAMES_SERVER=" + text}
				return c.Run(t.Context(), "", "find", "x")
			},
			"--server": func(c *clitest.Terminal) int { return c.Run(t.Context(), "", "find", "x", "--server", text) },
		} {
			c := clitest.Terminal{Services: services()}
			code := run(&c)
			if said := c.Err.String(); code != 2 || !strings.Contains(said, name+"=") ||
				!strings.Contains(said, want) {
				t.Errorf("%s=%q: exit code %d, %s", name, text, code, said)
			}
		}
	}
}

func TestBlanksAroundATargetAreNoPartOfIt(t *testing.T) {
	_, server := startFake(t, "")
	for _, blanks := range []string{" %s", "%s ", "\t%s\n", "\u00a0%s"} {
		text := strings.Replace(blanks, "%s", server, 1)
		c := clitest.Terminal{Services: services(), Environ: []string{"TEST_SERVER=" + text}}
		if code := c.Run(t.Context(), "", "find", "x"); code != 0 {
			t.Errorf("%q: exit code %d: %s", text, code, c.Err.String())
		}
		c = clitest.Terminal{Services: services()}
		if code := c.Run(t.Context(), "", "find", "x", "--server", text); code != 0 {
			t.Errorf("--server %q: exit code %d: %s", text, code, c.Err.String())
		}
	}
}
