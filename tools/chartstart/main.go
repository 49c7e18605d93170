// Command chartstart starts server and client with the settings that the chart gives them: it reads
// what helm template renders from standard input, and takes the ConfigMap of each program as its
// environment. Files and addresses are replaced by some of this machine. It fails unless both
// programs take every variable, listen, and end well after SIGTERM.
//
//	helm template quartet charts/quartet | go -C tools run ./chartstart
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"example.com/quartet/tools/internal/pair"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("chartstart: ")
	if err := run(context.Background(), "..", os.Stdin); err != nil {
		log.Fatal(err)
	}
}

// run starts both programs with what the chart gives them, and stops them again.
func run(ctx context.Context, repository string, rendered io.Reader) error {
	// Programs and data are in a folder that is removed afterwards.
	scratch, err := os.MkdirTemp("", "chartstart")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	settings, err := configMaps(rendered, scratch)
	if err != nil {
		return err
	}
	// Without this a chart whose labels have changed would pass, with programs that have only
	// defaults.
	for _, program := range []string{"server", "client"} {
		if len(settings[program]) == 0 {
			return fmt.Errorf("no ConfigMap with settings of the %s", program)
		}
	}
	// Start fails if a program refuses a variable or does not listen.
	both, err := pair.Start(ctx, repository, scratch, settings["server"], settings["client"])
	if err != nil {
		return err
	}
	return both.Stop()
}

// configMaps are the settings of each component, by app.kubernetes.io/component. The chart mounts
// volumes at /data; paths below it become paths in a folder here.
func configMaps(rendered io.Reader, folder string) (map[string]map[string]string, error) {
	found := map[string]map[string]string{}
	// The ConfigMaps are found among all that the chart renders.
	for documents := yaml.NewDecoder(rendered); ; {
		var document struct {
			Kind     string
			Metadata struct{ Labels map[string]string }
			Data     yaml.Node
		}
		if err := documents.Decode(&document); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		if document.Kind != "ConfigMap" {
			continue
		}
		settings := map[string]string{}
		// Only now is data decoded as strings: that of other kinds has other forms.
		if err := document.Data.Decode(&settings); err != nil {
			return nil, err
		}
		for name, value := range settings {
			if strings.HasPrefix(value, "/data/") {
				settings[name] = filepath.Join(folder, value)
			}
		}
		found[document.Metadata.Labels["app.kubernetes.io/component"]] = settings
	}
}
