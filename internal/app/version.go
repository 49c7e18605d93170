package app

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// VersionText is what --version says: the program, its version, the revision that it was built
// from, if the build recorded one, and Go's version: "shop-server v1.2.3 (revision 0123456789ab,
// go1.26.0 linux/amd64)".
func VersionText(id Identity, program, version string) string {
	about := []string{}
	// Go records these where it builds inside a Git work tree; with -buildvcs=false they are missing.
	if info, ok := debug.ReadBuildInfo(); ok {
		settings := map[string]string{}
		for _, setting := range info.Settings {
			settings[setting.Key] = setting.Value
		}
		if revision := settings["vcs.revision"]; revision != "" {
			about = append(about, "revision "+revision[:min(len(revision), 12)])
		}
		// The work tree had changes that no commit has.
		if settings["vcs.modified"] == "true" {
			about = append(about, "modified")
		}
	}
	about = append(about, fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH))
	return fmt.Sprintf("%s %s (%s)", id.Component(program), version, strings.Join(about, ", "))
}
