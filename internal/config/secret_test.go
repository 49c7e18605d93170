package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestASecretIsNeverPrinted(t *testing.T) {
	secret := Secret("hunter2")
	group := struct{ URL Secret }{secret}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		fmt.Fprintf(&out, verb+"\n", secret)
		fmt.Fprintf(&out, verb+"\n", group)
	}
	fmt.Fprintln(&out, errors.New("because of "+fmt.Sprint(secret)), &group)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "secret", secret, "group", group)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "secret", secret, "group", group)
	if err := json.NewEncoder(&out).Encode(group); err != nil {
		t.Error(err)
	}
	if strings.Contains(out.String(), "hunter2") ||
		strings.Contains(out.String(), fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("printed:\n%s", &out)
	}
	if string(secret) != "hunter2" {
		t.Error("the value is lost")
	}
}

func TestLoadFillsSecrets(t *testing.T) {
	cfg, err := load[struct {
		URL Secret `env:"URL" envDefault:"embedded:"`
	}]([]string{"SHOP_URL=queue://user:hunter2@host:1"})
	if err != nil || string(cfg.URL) != "queue://user:hunter2@host:1" {
		t.Errorf("got %q and %v", string(cfg.URL), err)
	}
}

func TestValuesThatDoNotParseAreShownWithoutUserAndParameters(t *testing.T) {
	for value, want := range map[string]string{
		"many":                                  "many",
		"localhost:50051":                       "localhost:50051",
		"user:hunter2@host:1":                   "***@host:1",
		"http://user:hunter2@host:1":            "http://***@host:1",
		"dns:///user:hun/ter#2@3@host:1":        "dns:///***@host:1",
		"dns:///host:1?token=hunter2":           "dns:///host:1?***",
		"blob://key:hunter2@bucket?key=hunter2": "blob://***@bucket?***",
	} {
		if got := Masked(value); got != want {
			t.Errorf("%s is shown as %s, want %s", value, got, want)
		}
		for _, name := range []string{"GRPC_PORT", "TIMEOUT", "STRICT", "CHUNK_SIZE", "LOG_LEVEL"} {
			_, err := load[example]([]string{"SHOP_" + name + "=" + value})
			if err == nil || strings.Contains(err.Error(), "hunter2") ||
				!strings.Contains(err.Error(), `="`+want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
