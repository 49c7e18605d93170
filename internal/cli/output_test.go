package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
)

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain, grün, 日本語　かな, 👩\u200d🚀": "plain, grün, 日本語　かな, 👩\u200d🚀",
		"\x1b[31mred":   `\x1b[31mred`,
		"a\nb\r\tc":     `a\nb\r\tc`,
		"\x7f\u009b1m":  `\x7f\u009b1m`,
		"\u202egnp.exe": `\u202egnp.exe`,
		"\xff":          "�",
		"one\u2028two":  `one\u2028two`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q: %q, expected %q", text, got, want)
		}
	}
}

func TestJSONIsOneSafeLineThatMeansTheSame(t *testing.T) {
	name := "a\nb\x1b\u009b\u202e\U000e0001 ü \"q\""
	var out strings.Builder
	if err := WriteJSON(&out, &errdetails.ResourceInfo{ResourceName: name, Owner: "3"}); err != nil {
		t.Fatal(err)
	}
	if line := strings.TrimSuffix(out.String(), "\n"); Printable(line) != line {
		t.Errorf("not safe: %q", line)
	}
	var back struct {
		Name string `json:"resource_name"`
	}
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil || back.Name != name {
		t.Errorf("%q, %v", back.Name, err)
	}
	if !strings.HasSuffix(out.String(), `","owner":"3"}`+"\n") {
		t.Errorf("not compact: %s", out.String())
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 300_000_000: "286.1 MiB", 1 << 62: "4096.0 PiB"} {
		if got := Size(bytes); got != want {
			t.Errorf("%d: %s, expected %s", bytes, got, want)
		}
	}
}
