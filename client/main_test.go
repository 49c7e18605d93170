package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/quartet"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process"
	"example.com/quartet/test/process/processtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		processtest.Clean()
		os.Exit(status)
	}))
}

// client runs the program as it is shipped, and returns what it wrote.
func client(t *testing.T, address string, arguments ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, processtest.Binary(t, "client"), arguments...)
	c.Env = process.Environ(process.Setting("SERVER", address))
	output, err := c.CombinedOutput()
	return string(output), err
}

func TestCheckFindsThatEverythingWorks(t *testing.T) {
	server := processtest.Start(t)
	output, err := client(t, server.Address, "check")
	steps := 1 // the health
	for _, service := range services {
		if service.Check != nil {
			steps += len(service.Check(cli.Connection{Telemetry: telemetry.Discard()}))
		}
	}
	if err != nil || strings.Count(output, "ok ") != steps {
		t.Errorf("%d steps expected, %v:\n%s", steps, err, output)
	}
}

func TestDemoShowsEveryService(t *testing.T) {
	server := processtest.Start(t)
	if output, err := client(t, server.Address, "demo"); err != nil {
		t.Errorf("%v:\n%s", err, output)
	}
}

func TestHelpNamesEveryService(t *testing.T) {
	help, err := client(t, "localhost:1", "--help")
	if err != nil {
		t.Fatal(err)
	}
	const screen, own = 24, 2 // A service of one's own takes two lines more than ours leave.
	if lines := strings.Count(help, "\n"); lines > screen+own*max(0, len(services)-3) {
		t.Errorf("%d lines are more than a screen has:\n%s", lines, help)
	}
	for line := range strings.Lines(help) {
		name, isCommand := strings.CutPrefix(line, "  ")
		if !isCommand || strings.HasPrefix(name, "completion") {
			continue
		}
		its, err := client(t, "localhost:1", strings.Fields(name)[0], "--help")
		if lines := strings.Count(its, "\n"); err != nil || lines > screen {
			t.Errorf("%v, and %d lines are more than a screen has:\n%s", err, lines, its)
		}
	}
	environment, err := client(t, "localhost:1", "help", "environment")
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range services {
		part := string(service.Descriptors[0].FullName())
		if service.Commands != nil && !strings.Contains(help, part) {
			t.Errorf("%q is not in:\n%s", part, help)
		}
		if part := quartet.Identity.EnvironmentPrefix() + strings.ToUpper(service.Name) + "_SERVER "; !strings.Contains(environment, part) {
			t.Errorf("%q is not in:\n%s", part, environment)
		}
	}
}

func TestLoadGoesThroughEveryServiceAndLeavesNothingBehind(t *testing.T) {
	server := processtest.Start(t)
	output, err := client(t, server.Address, "load", "--duration", "1s", "--concurrency", "2", "--size", "100KiB")
	if err != nil {
		t.Errorf("%v:\n%s", err, output)
	}
	for _, service := range services {
		if service.Traffic == nil {
			continue
		}
		source := service.Traffic(cli.Connection{Telemetry: telemetry.Discard()})
		for _, operation := range source.Operations {
			if !strings.Contains(output, operation.Method+" (") {
				t.Errorf("%s is not in:\n%s", operation.Method, output)
			}
		}
	}
}
