package cli

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/quartet/internal/app"
	"example.com/quartet/internal/traffic"
)

// validate finds mistakes in the list of services, which would end in a panic much later. All are
// reported, since their author is to mend them in one go.
func (p Program) validate() error {
	var problems []error
	names := map[string]bool{}
	for _, service := range p.Services {
		if !app.ServiceName.MatchString(service.Name) {
			problems = append(
				problems,
				fmt.Errorf("service %q: its name does not match %v", service.Name, app.ServiceName),
			)
		}
		if names[service.Name] {
			problems = append(problems, fmt.Errorf("service %q: its name is there twice", service.Name))
		}
		names[service.Name] = true
		// A descriptor is nil if it was looked up in a generated file by a name that it does not have.
		if len(service.Descriptors) == 0 || slices.Contains(service.Descriptors, nil) {
			problems = append(
				problems,
				fmt.Errorf(
					"service %q: a descriptor is missing, is the name of its gRPC service right?",
					service.Name,
				),
			)
		}
	}
	return errors.Join(problems...)
}

// validateSteps finds the methods of a check that do not exist: they are strings in the service's
// code, which no compiler compares with the contract.
func (s Service) validateSteps(steps []Step) error {
	var problems []error
	for _, step := range steps {
		if s.method(step.Method) == nil {
			problems = append(
				problems,
				fmt.Errorf(
					"service %q: its check has the method %q, which is not in the contract",
					s.Name,
					step.Method,
				),
			)
		}
	}
	return errors.Join(problems...)
}

// validateTraffic finds the methods of traffic that do not exist, before metrics take their labels
// from them.
func (s Service) validateTraffic(source traffic.Source) error {
	if source.Service == nil {
		return fmt.Errorf("service %q: its traffic has no descriptor", s.Name)
	}
	var problems []error
	for _, operation := range source.Operations {
		if source.Service.Methods().ByName(protoreflect.Name(operation.Method)) == nil {
			problems = append(
				problems,
				fmt.Errorf(
					"service %q: its traffic has the method %q, which is not in the contract",
					s.Name,
					operation.Method,
				),
			)
		}
	}
	return errors.Join(problems...)
}
