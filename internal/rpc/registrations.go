package rpc

import (
	"fmt"
	"slices"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// registrations remembers services until there is a server to register them
// with: the metrics of their methods have to exist before it.
type registrations []registration

type registration struct {
	desc   *grpc.ServiceDesc
	impl   any
	errors ErrorTable
	limits map[string]int
	kinds  []string // of names
}

// Names are the full names of what Register registers.
func (s Service) Names() []string {
	var all registrations
	s.Register(&all)
	return all.names()
}

func registered(services []Service) (all registrations, err error) {
	for i, service := range services {
		if service.Register == nil {
			return nil, fmt.Errorf("service %d: Register is not set", i+1)
		}
		begin := len(all)
		service.Register(&all)
		for i := range all[begin:] {
			all[begin+i].errors, all[begin+i].limits = service.Errors, service.MessageBytes
			all[begin+i].kinds = service.NameKinds
		}
	}
	known := map[string]bool{}
	for _, name := range all.names() {
		if known[name] {
			return nil, fmt.Errorf("service %s is registered twice", name)
		}
		known[name] = true
	}
	return all, nil
}

// RegisterService implements grpc.ServiceRegistrar.
func (r *registrations) RegisterService(desc *grpc.ServiceDesc, impl any) {
	*r = append(*r, registration{desc: desc, impl: impl})
}

func (r registrations) names() []string {
	var names []string
	for _, service := range r {
		names = append(names, service.desc.ServiceName)
	}
	return names
}

// descriptors finds the services in the registry that generated code fills.
func (r registrations) descriptors() ([]protoreflect.ServiceDescriptor, error) {
	var found []protoreflect.ServiceDescriptor
	for _, name := range r.names() {
		descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
		service, ok := descriptor.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("service %s: is no service but a %T", name, descriptor)
		}
		found = append(found, service)
	}
	return found, nil
}

func (r registrations) errorTables(domain string) errorTables {
	tables := errorTables{domain, map[string]ErrorTable{}}
	for _, service := range r {
		tables.services[service.desc.ServiceName] = service.errors
	}
	return tables
}

func (r registrations) nameKinds() nameKinds {
	kinds := nameKinds{}
	for _, service := range r {
		kinds[service.desc.ServiceName] = service.kinds
	}
	return kinds
}

// requestBytes is the size of the largest request of a call whose client sends one message, unless
// MessageBytes has another for its method.
const requestBytes = 4 << 10

// messageLimits are the sizes of the largest messages by full method, where they are less than that
// of the server.
func (r registrations) messageLimits() (map[string]int, error) {
	limits := map[string]int{}
	for _, service := range builtIns() {
		for i := range service.Methods().Len() {
			limits[fmt.Sprintf("/%s/%s", service.FullName(),
				service.Methods().Get(i).Name())] = builtInBytes
		}
	}
	for _, service := range r {
		for _, name := range service.requests() {
			limits["/"+service.desc.ServiceName+"/"+name] = requestBytes
		}
		for name, limit := range service.limits {
			if limit <= 0 || !service.has(name) {
				return nil,
					fmt.Errorf("service %s: MessageBytes has %d for %q, which has to be one of its methods, and more than zero", service.desc.ServiceName, limit, name)
			}
			limits["/"+service.desc.ServiceName+"/"+name] = limit
		}
	}
	return limits, nil
}

// requests are the methods whose client sends one message.
func (r registration) requests() (names []string) {
	for _, method := range r.desc.Methods {
		names = append(names, method.MethodName)
	}
	for _, stream := range r.desc.Streams {
		if !stream.ClientStreams {
			names = append(names, stream.StreamName)
		}
	}
	return names
}

func (r registration) has(method string) bool {
	return slices.ContainsFunc(r.desc.Methods,
		func(m grpc.MethodDesc) bool { return m.MethodName == method }) ||
		slices.ContainsFunc(r.desc.Streams,
			func(s grpc.StreamDesc) bool { return s.StreamName == method })
}

// builtIns are the services that every server has.
func builtIns() []protoreflect.ServiceDescriptor {
	return []protoreflect.ServiceDescriptor{
		healthpb.File_grpc_health_v1_health_proto.Services().Get(0),
		reflectionpb.File_grpc_reflection_v1_reflection_proto.Services().Get(0),
		reflectionalphapb.File_grpc_reflection_v1alpha_reflection_proto.Services().Get(0),
	}
}
