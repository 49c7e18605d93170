package apptest

import (
	"encoding/json"
	"os"
	"testing"
)

// Rule is one of the permissions of a server.
type Rule struct {
	Callers []string            `json:"callers"`
	Methods []string            `json:"methods"`
	Names   map[string][]string `json:"names,omitempty"`
}

// Permit writes rules to a file, which TEST_RPC_PERMISSIONS_FILE names.
func Permit(tb testing.TB, file string, rules ...Rule) {
	tb.Helper()
	list, err := json.Marshal(map[string]any{"allow": rules})
	if err != nil {
		tb.Fatal(err)
	}
	WritePermissions(tb, file, string(list))
}

// WritePermissions replaces the file whole, as Kubernetes does.
func WritePermissions(tb testing.TB, file, list string) {
	tb.Helper()
	next := file + ".next"
	if err := os.WriteFile(next, []byte(list), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		tb.Fatal(err)
	}
}
