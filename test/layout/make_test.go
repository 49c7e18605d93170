package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMakeGivesWhatItRunsTheWholePath has an apostrophe and a blank in the path of the project, and
// an apostrophe in that of another folder.
func TestMakeGivesWhatItRunsTheWholePath(t *testing.T) {
	project := projectOf(t, filepath.Join(t.TempDir(), "it's a project"))
	program := script(t, `printf '%s\n' "GOWORK=$GOWORK" "$@"`)
	for _, arguments := range [][]string{
		{"rpc", "SERVICE=Order", "NAME=Cancel"},
		{"service", "NAME=Customer"},
		{"update", "FROM=../it's"},
	} {
		output, err := makeIn(t, project, append(arguments, "GO="+program)...)
		lines := strings.Split(output, "\n")
		at := slices.Index(lines, "-project")
		if err != nil || at < 0 || lines[at+1] != project || lines[0] != "GOWORK=off" {
			t.Errorf("make %q: %v\n%s", arguments, err, output)
		}
		if arguments[0] == "update" && !slices.Contains(lines, "../it's") {
			t.Errorf("make %q has not passed on FROM:\n%s", arguments, output)
		}
	}
}

func TestMakeFuzzRunsEachTargetWhateverGitIsSetTo(t *testing.T) {
	project := projectOf(t, t.TempDir())
	t.Setenv("GIT_CONFIG_PARAMETERS", "'grep.lineNumber=true' 'grep.column=true' 'grep.fullName=true' 'color.ui=always'")
	output, err := makeIn(t, project, "fuzz", "GO="+script(t, `printf '%s\n' "$*"`))
	for _, want := range []string{"-fuzz ^FuzzOne$ ", "-fuzz ^FuzzTwo$ "} {
		if err != nil || !strings.Contains(output, want) || strings.Count(output, " ./sub\n") != 2 {
			t.Errorf("%v: there is no %q in ./sub:\n%s", err, want, output)
		}
	}
}

func TestMakeFuzzFailsIfNothingIsFuzzed(t *testing.T) {
	project := projectOf(t, t.TempDir())
	for _, program := range []string{"printf 'testing: warning: no fuzz tests to fuzz\\n'", "exit 1"} {
		if output, err := makeIn(t, project, "fuzz", "GO="+script(t, program)); err == nil {
			t.Errorf("it has passed with %s:\n%s", program, output)
		}
	}
}

// projectOf makes a folder with the Makefile and two fuzz targets, which git knows.
func projectOf(t *testing.T, folder string) string {
	t.Helper()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make")
	}
	if err := os.MkdirAll(filepath.Join(folder, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"Makefile":      read(t, "Makefile"),
		"sub/x_test.go": "package sub\n\nfunc FuzzOne(f *testing.F) {}\n\nfunc FuzzTwo(f *testing.F) {}\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, arguments := range [][]string{{"init", "--quiet"}, {"add", "--all"}} {
		git := exec.CommandContext(t.Context(), "git", append([]string{"-C", folder}, arguments...)...)
		if output, err := git.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
	}
	return folder
}

// script makes a program that stands for the go command.
func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "go")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// makeIn runs make in a folder, as if no other make ran this test.
func makeIn(t *testing.T, folder string, arguments ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "make", arguments...)
	command.Dir = folder
	command.Env = slices.DeleteFunc(command.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") || strings.HasPrefix(v, "GOWORK=")
	})
	output, err := command.CombinedOutput()
	return string(output), err
}
