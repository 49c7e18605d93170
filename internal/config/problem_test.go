package config

import (
	"errors"
	"fmt"
	"testing"
)

func TestOnlyProblemsGetTheNamesOfVariables(t *testing.T) {
	group := Group{Prefix: "OBJECT_", Into: &struct {
		URL string `env:"URL"`
	}{}}
	err := fmt.Errorf("while opening\n%w", Problem(errors.New("URL: has no host\nURLS: are none")))
	if got := Complete("T_", group, err); !IsProblem(got) ||
		got.Error() != "while opening\nT_OBJECT_URL: has no host\nURLS: are none" {
		t.Errorf("got %v", got)
	}
	if err = errors.New("URL: has no host"); !errors.Is(Complete("T_", group, err), err) ||
		IsProblem(err) {
		t.Error("another error was changed")
	}
}
