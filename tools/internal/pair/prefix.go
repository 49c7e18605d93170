package pair

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
)

// Help is what a program of the repository says of its variables: the server with --help, and the
// client on a page of its own.
func Help(ctx context.Context, repository, program string) (string, error) {
	arguments := []string{"run", "./" + program, "--help"}
	if program == "client" {
		arguments = []string{"run", "./client", "help", "environment"}
	}
	command := exec.CommandContext(ctx, "go", arguments...)
	// What the go command says while it compiles is shown.
	command.Dir, command.Stderr = repository, os.Stderr
	help, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("help of %s: %w", program, err)
	}
	return string(help), nil
}

// logFormat matches a variable that each program has, whatever else it has.
var logFormat = regexp.MustCompile(`(?m)^  ([A-Z0-9_]+_)LOG_FORMAT `)

// PrefixIn finds in the help of a program what its variables begin with, "SHOP_" for example. The
// programs say it themselves, because this module is not built from theirs.
func PrefixIn(help string) (string, error) {
	found := logFormat.FindAllStringSubmatch(help, -1)
	if len(found) == 0 {
		return "", errors.New("the help lists no variables")
	}
	// A service may have a variable of that name too, with a name of its own before it.
	shorter := func(a, b []string) int { return cmp.Compare(len(a[1]), len(b[1])) }
	return slices.MinFunc(found, shorter)[1], nil
}
