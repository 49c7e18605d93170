package scaffold

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// addService adds a service without RPCs, which is not complete: addRPC gives it the first one.
func (p *project) addService(name string) error {
	if err := validForm("NAME", name); err != nil {
		return err
	}
	folder := strings.ToLower(name)
	if err := ValidPackage(folder); err != nil {
		return fmt.Errorf("NAME: %w", err)
	}
	for _, side := range []string{"server", "client"} {
		if _, err := os.Lstat(filepath.Join(p.root, side, folder)); err == nil {
			return fmt.Errorf("NAME: %s/%s is there already", side, folder)
		}
	}
	if err := TestsAreFree(p.root, folder); err != nil {
		return fmt.Errorf("NAME: %w", err)
	}
	// The schema lists all variables, so that it tells which prefixes are taken.
	schemas, err := filepath.Glob(filepath.Join(p.root, "charts", "*", "values.schema.json"))
	if err != nil {
		return err
	}
	for _, schema := range schemas {
		text, err := os.ReadFile(schema)
		if err != nil {
			return err
		}
		if prefix := strings.ToUpper(folder) + "_"; strings.Contains(string(text), `"`+prefix) {
			return fmt.Errorf("NAME: there are variables already that begin with %s", prefix)
		}
	}
	f := facts{
		RPC:     RPC{Service: name},
		Module:  p.module,
		Import:  p.importPath(),
		V1:      p.alias(),
		Package: folder,
	}
	// The templates use both what an RPC's templates know, as f, and what only a service needs.
	of := map[string]any{
		"f":   f,
		"Pkg": p.pkg,
		// protoc-gen-go names the variable of a file by its path, with underscores.
		"File": strings.ReplaceAll(strings.ReplaceAll(p.pkg, ".", "_")+"_"+folder, "/", "_"),
	}
	for file, text := range map[string]string{
		path.Join(p.proto, folder+".proto"):       newProto,
		path.Join("server", folder, "service.go"): newServer,
		path.Join("server", folder, "errors.go"):  newErrors,
		path.Join("client", folder, "service.go"): newClientService,
		path.Join("client", folder, "client.go"):  newClient,
		path.Join("client", folder, "config.go"):  newConfig,
		path.Join("client", folder, "traffic.go"): newTraffic,
		path.Join("docs/services", folder+".md"):  newDocument,
	} {
		made, err := execute(text, "", of)
		if err != nil {
			return err
		}
		if err := p.create(file, made); err != nil {
			return err
		}
	}
	for _, side := range []string{"server", "client"} {
		if err := p.addToMain(side, folder); err != nil {
			return err
		}
	}
	return nil
}

// TestsAreFree returns an error if there are tests that README.md would remove with a service of
// this folder.
func TestsAreFree(root, folder string) error {
	for _, pattern := range []string{folder, folder + "[._]*"} {
		found, err := filepath.Glob(filepath.Join(root, "test", "*", pattern))
		if err != nil {
			return err
		}
		if len(found) > 0 {
			name, _ := filepath.Rel(root, found[0])
			return fmt.Errorf("%s would be taken for a test of the service %s", filepath.ToSlash(name), folder)
		}
	}
	return nil
}

// addToMain adds the service to the list in a main, and its import beside those of the other
// services of that side. Both are found by their text, and an error says if there is none.
func (p *project) addToMain(side, folder string) error {
	file := side + "/main.go"
	text, err := p.read(file)
	if err != nil {
		return err
	}
	list := regexp.MustCompile(`(?m)^var services = \[\](?:app|cli)\.Service\{\n(?:\t.*\n)*`)
	imports := regexp.MustCompile(`(?m)^import \(\n(?:.*\n)*?\)\n`)
	if !list.MatchString(text) || !imports.MatchString(text) {
		return fmt.Errorf("%s has no list of services: var services = …", file)
	}
	// Two imports of one name do not compile.
	if regexp.MustCompile(`"[^"]*/` + folder + `"`).MatchString(text) {
		return fmt.Errorf("NAME: %s imports something of that name already", file)
	}
	text = list.ReplaceAllString(text, "${0}\t"+folder+".Service(),\n")
	line := "\t\"" + p.module + "/" + side + "/" + folder + "\"\n"
	// The import goes before the last one of that side, or to the end; gofmt sorts it.
	p.changed[file] = imports.ReplaceAllStringFunc(text, func(block string) string {
		at := strings.LastIndex(block, "\t\""+p.module+"/"+side+"/")
		if at < 0 {
			at = len(block) - len(")\n")
		}
		return block[:at] + line + block[at:]
	})
	return nil
}

// The texts of a new service follow, each as a template of the file that its name says. They are
// part of the generated project, where they are compiled and linted.
const newProto = `
syntax = "proto3";

package {{.Pkg}};

// {{.f.Service}}Service says here what it is for, and what holds for all its methods: what it keeps, its limits, its status codes.
//
// Codes of all methods: UNAVAILABLE (reason STOPPING, with RetryInfo) when the server is about to stop, RESOURCE_EXHAUSTED
// (reason OVERLOADED, with RetryInfo) when it has too many calls at once.
service {{.f.Service}}Service {
}
`

// newServer is service.go of the server: what it registers, with nothing behind it yet.
const newServer = `
// Package {{.f.Package}} answers {{.f.Service}}Service: one file per RPC.
package {{.f.Package}}

import (
	"context"

	"google.golang.org/grpc"

	{{.f.V1}} "{{.f.Import}}"
	"{{.f.Module}}/internal/app"
	"{{.f.Module}}/internal/rpc"
)

// Service is what the server has of {{.f.Service}}Service.
func Service() app.Service {
	return app.Service{
		Name: "{{.f.Package}}",
		Open: func(_ context.Context, host app.Host) (app.Opened, error) {
			s := &service{draining: host.Draining}
			return app.Opened{Service: rpc.Service{
				Register: func(r grpc.ServiceRegistrar) { {{.f.V1}}.Register{{.f.Service}}ServiceServer(r, s) },
				Errors:   errorTable,
			}}, nil
		},
	}
}

// service answers {{.Pkg}}.{{.f.Service}}Service.
type service struct {
	// The Unsafe interface has no methods to inherit: an RPC that is added to the contract breaks the build until it is
	// written.
	{{.f.V1}}.Unsafe{{.f.Service}}ServiceServer

	// draining is closed when the server is about to stop: streams that wait for their client end then.
	draining <-chan struct{}
}
`

// newErrors is errors.go of the server: an error table with the rules that every stream needs.
const newErrors = `
package {{.f.Package}}

import "{{.f.Module}}/internal/rpc"

// errorTable is the one place where errors of the domain become status codes. Whatever is not here reaches a client as
// INTERNAL with a fixed text, and the log with its own.
var errorTable = rpc.ErrorTable{Rules: rpc.StreamRules}
`

// newClientService is service.go of the client. addToClient adds each RPC to the list in check.
const newClientService = `
package {{.f.Package}}

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	{{.f.V1}} "{{.f.Import}}"
	"{{.f.Module}}/internal/cli"
	"{{.f.Module}}/internal/traffic"
)

var descriptor = {{.f.V1}}.File_{{.File}}_proto.Services().ByName("{{.f.Service}}Service")

// Service is what the command line has of {{.f.Service}}Service.
func Service() cli.Service {
	cfg := &Config{}
	return cli.Service{
		Name:        "{{.f.Package}}",
		Descriptors: []protoreflect.ServiceDescriptor{descriptor},
		Config:      cfg,
		Check:       check,
		Traffic:     func(s cli.Connection) traffic.Source { return cfg.traffic(s) },
		Demo:        demo,
	}
}

// connect makes the client of a connection.
func connect(s cli.Connection) *Client { return NewClient(s.Conn) }

func check(s cli.Connection) []cli.Step {
	return []cli.Step{}
}

func demo(ctx context.Context, s cli.Connection, _ string, show cli.Show) error {
	for _, step := range check(s) {
		if err := step.Do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.Method, err)
		}
		show(strings.ToLower(step.Method), "the answer was right")
	}
	return nil
}
`

// newClient is client.go, to which each RPC adds a method in a file of its own.
const newClient = `
// Package {{.f.Package}} calls {{.f.Service}}Service: one file per RPC, named as the server's.
package {{.f.Package}}

import (
	"google.golang.org/grpc"

	{{.f.V1}} "{{.f.Import}}"
)

// Client calls {{.f.Service}}Service. It is safe for concurrent use.
type Client struct {
	calls {{.f.V1}}.{{.f.Service}}ServiceClient
}

// NewClient makes a client from a connection, for which rpc.NewClient has to know the service.
func NewClient(conn grpc.ClientConnInterface) *Client {
	return &Client{calls: {{.f.V1}}.New{{.f.Service}}ServiceClient(conn)}
}
`

// newConfig is config.go of the client. addToClient adds a rate for each RPC, and its check to
// Join.
const newConfig = `
package {{.f.Package}}

import (
	"errors"

	"{{.f.Module}}/internal/traffic"
)

// Config is what can be set of the steady traffic, each by an environment variable. A rate is in operations per second.
type Config struct {
}

// Validate checks what the types cannot say.
func (c Config) Validate() error {
	return errors.Join()
}
`

// newTraffic is traffic.go of the client. addToClient adds each RPC to the list of operations.
const newTraffic = `
package {{.f.Package}}

import (
	"{{.f.Module}}/internal/cli"
	"{{.f.Module}}/internal/traffic"
)

func (c Config) traffic(s cli.Connection) traffic.Source {
	return traffic.Source{Service: descriptor, Operations: []traffic.Operation{}}
}
`

// newDocument is the service's page of the documentation.
const newDocument = `
# {{.f.Service}}Service

Say here what it is for, and what an operator has to know of it. Its steady traffic is set by
` + "`client.config.{{.f.Upper}}_TRAFFIC_…`" + `; ` + "`client --help`" + ` lists the variables.
`
