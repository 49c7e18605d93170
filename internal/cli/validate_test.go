package cli_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/cli/clitest"
	"example.com/quartet/internal/traffic"
)

func TestMistakesInTheListOfServicesAreTold(t *testing.T) {
	_, server := startFake(t, "")
	for name, test := range map[string]struct {
		command string
		spoil   func(*cli.Service)
		want    string
	}{
		"name":          {"find", func(s *cli.Service) { s.Name = "my-names" }, `service "my-names": its name does not match`},
		"no descriptor": {"find", func(s *cli.Service) { s.Descriptors = nil }, `service "names": a descriptor is missing`},
		"nil descriptor": {"find", func(s *cli.Service) {
			s.Descriptors = []protoreflect.ServiceDescriptor{descriptor.ParentFile().Services().ByName("TestServise")}
		}, `service "names": a descriptor is missing`},
		"twice": {"find", func(s *cli.Service) { s.Name = "lacking" }, `service "lacking": its name is there twice`},
		"check": {"check", func(s *cli.Service) {
			s.Check = func(cli.Connection) []cli.Step { return []cli.Step{{Method: "UnaryCal"}} }
		}, `service "names": its check has the method "UnaryCal"`},
		"traffic": {"serve", func(s *cli.Service) {
			s.Traffic = func(cli.Connection) traffic.Source {
				return traffic.Source{Service: descriptor, Operations: []traffic.Operation{{Method: "UnaryCal"}}}
			}
		}, `service "names": its traffic has the method "UnaryCal"`},
		"traffic without descriptor": {"serve", func(s *cli.Service) {
			s.Traffic = func(cli.Connection) traffic.Source { return traffic.Source{} }
		}, `service "names": its traffic has no descriptor`},
	} {
		t.Run(name, func(t *testing.T) {
			c := clitest.Terminal{Services: append(services(), lacking()), Environ: serving()}
			test.spoil(&c.Services[0])
			if code := c.Run(t.Context(), server, test.command); code != 2 {
				t.Errorf("exit code %d", code)
			}
			clitest.Want(t, c.Err.String(), test.want)
		})
	}
}
