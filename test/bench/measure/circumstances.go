package measure

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// PrintCircumstances writes what the numbers below depend on: machine, date, and the versions of
// the modules named.
func PrintCircumstances(w io.Writer, modules ...string) {
	fmt.Fprintf(w, "- %s, %s/%s, %d cores: %s\n", time.Now().UTC().Format("2006-01-02 15:04 MST"),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor())
	fmt.Fprintf(w, "- load of the last minute before: %s; GOMAXPROCS %d\n", load(), runtime.GOMAXPROCS(0))
	versions := []string{runtime.Version()}
	for _, module := range modules {
		versions = append(versions, module+" "+version(module))
	}
	fmt.Fprintf(w, "- %s\n", strings.Join(versions, ", "))
}

// unknown stands for what this machine does not tell.
const unknown = "unknown"

func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // Only Linux has it.
	for line := range strings.Lines(string(info)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return unknown
}

func load() string {
	averages, _ := os.ReadFile("/proc/loadavg")
	if minute, _, found := strings.Cut(string(averages), " "); found {
		return minute
	}
	return unknown
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return unknown
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return unknown
}
