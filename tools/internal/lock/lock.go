// Package lock reads and writes project.lock, which records how a project was made from the
// template: at which revision, and with which answers. make new writes it, make update makes the
// project again with the same answers.
package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Name is the name of the file, at the root of a project.
const Name = "project.lock"

// Lock is what the file has.
type Lock struct {
	// Template is where the template can be cloned from. It is empty if it was made from a clone
	// without a remote.
	Template string `json:"template,omitempty"`
	// Revision is the commit of the template, as 40 hexadecimal digits.
	Revision string `json:"revision"`
	// Module is the path of the project's Go module: "github.com/acme/orders-api".
	Module string `json:"module"`
	// Name is the product's name: "orders".
	Name string `json:"name"`
	// Services are the services of the template that the project has, by the names of their folders
	// there.
	Services []string `json:"services"`
	// Service is what EchoService is called in the project, without "Service": "Order". It is empty if
	// it kept its name.
	Service string `json:"service,omitempty"`
}

// Read reads the file in a folder. The error says so if the folder has none.
func Read(folder string) (Lock, error) {
	var l Lock
	text, err := os.ReadFile(filepath.Join(folder, Name))
	if errors.Is(err, fs.ErrNotExist) {
		return l, fmt.Errorf("%s is missing: only a project that make new has made can be updated", Name)
	}
	if err != nil {
		return l, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	// A field that is not known comes from a later template, whose answers this one cannot keep.
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return l, fmt.Errorf("%s: %w", Name, err)
	}
	return l, nil
}

// Write writes the file into a folder.
func (l Lock) Write(folder string) error {
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, Name), append(text, '\n'), 0o644)
}
