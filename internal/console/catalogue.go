package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"example.com/quartet/internal/telemetry"
)

// idempotency is what the contract says of a method in the option idempotency_level.
type idempotency = descriptorpb.MethodOptions_IdempotencyLevel

// noSideEffects is the level of methods that a token for reading may call.
const noSideEffects = descriptorpb.MethodOptions_NO_SIDE_EFFECTS

// The catalogue, as the page reads it.
type (
	// catalogueJSON is the whole. Messages and Enums are by their full names.
	catalogueJSON struct {
		// Product and Version are what the page calls itself.
		Product  string                 `json:"product"`
		Version  string                 `json:"version"`
		Services []serviceJSON          `json:"services"`
		Messages map[string]messageJSON `json:"messages"`
		Enums    map[string]enumJSON    `json:"enums"`
		// MaxFrame lets the page refuse a message that the bridge would not take.
		MaxFrame int64 `json:"max_frame_bytes"`
		// Metadata is the list of names that calls may have, as it is configured.
		Metadata     string      `json:"metadata"`
		DashboardURL string      `json:"dashboard_url,omitempty"`
		Panels       []panelJSON `json:"panels,omitempty"`
		// Rollout says that the servers can be replaced.
		Rollout bool `json:"rollout,omitempty"`
	}
	// panelJSON is the page that a service adds: Name is its path below /panels/, Title what people
	// read.
	panelJSON struct {
		Name  string `json:"name"`
		Title string `json:"title"`
	}
	// serviceJSON is a gRPC service. Target is where the client's connection to it goes.
	serviceJSON struct {
		Name    string `json:"name"`
		Comment string `json:"comment,omitempty"`
		Target  string `json:"target"`
		// Package is where the Go code of the service is generated to.
		Package string       `json:"go_package,omitempty"`
		Methods []methodJSON `json:"methods"`
	}
	// methodJSON is an RPC; Input and Output are names in Messages.
	methodJSON struct {
		Name    string `json:"name"`
		Comment string `json:"comment,omitempty"`
		Mode    string `json:"mode"` // as metrics spell it
		Input   string `json:"input"`
		Output  string `json:"output"`
		// Safe methods have no side effects.
		Safe       bool `json:"safe,omitempty"`
		Deprecated bool `json:"deprecated,omitempty"`
	}
	// messageJSON is a message, from whose fields the page makes a form.
	messageJSON struct {
		Comment string      `json:"comment,omitempty"`
		Fields  []fieldJSON `json:"fields"`
		Oneofs  []oneofJSON `json:"oneofs,omitempty"`
	}
	// fieldJSON is a field of a message.
	fieldJSON struct {
		Name     string     `json:"name"` // as in the contract
		JSON     string     `json:"json"`
		Comment  string     `json:"comment,omitempty"`
		Kind     string     `json:"kind"`           // "string", "uint64", "message" and so on
		Type     string     `json:"type,omitempty"` // of a message or an enum
		Repeated bool       `json:"repeated,omitempty"`
		Optional bool       `json:"optional,omitempty"` // whether unset differs from zero
		Oneof    string     `json:"oneof,omitempty"`
		Key      string     `json:"key,omitempty"`   // kind of the keys of a map
		Value    *fieldJSON `json:"value,omitempty"` // of a map
	}
	// oneofJSON is a oneof; its fields name it.
	oneofJSON struct {
		Name    string `json:"name"`
		Comment string `json:"comment,omitempty"`
	}
	// enumJSON is an enum, with its values in the order of the contract.
	enumJSON struct {
		Comment string      `json:"comment,omitempty"`
		Values  []valueJSON `json:"values"`
	}
	valueJSON struct {
		Name    string `json:"name"`
		Number  int32  `json:"number"`
		Comment string `json:"comment,omitempty"`
	}
)

// describer collects what messages and methods are made of, starting at the methods. contract has
// the comments.
type describer struct {
	contract *protoregistry.Files
	catalogueJSON
}

// catalogue describes all services as JSON.
func catalogue(o Options) ([]byte, error) {
	d := describer{catalogueJSON: catalogueJSON{
		Product:      o.Product,
		Version:      o.Version,
		Messages:     map[string]messageJSON{},
		Enums:        map[string]enumJSON{},
		MaxFrame:     int64(o.Config.MaxFrameBytes),
		Metadata:     o.Config.Metadata,
		DashboardURL: o.Config.DashboardURL,
		Rollout:      o.Config.RolloutURL != "",
	}}
	// An empty contract is an empty set: everything is described, without comments.
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(o.Contract, &set); err != nil {
		return nil, fmt.Errorf("contract: %w", err)
	}
	var err error
	// The contract may leave out files that it imports; those have no comments then.
	if d.contract, err = (protodesc.FileOptions{AllowUnresolvable: true}).NewFiles(&set); err != nil {
		return nil, fmt.Errorf("contract: %w", err)
	}
	for _, service := range o.Services {
		d.service(service)
	}
	for _, panel := range o.Panels {
		d.Panels = append(d.Panels, panelJSON{panel.Name, panel.Title})
	}
	return json.Marshal(d.catalogueJSON)
}

// comment is what stands above a declaration in the contract. The descriptors that a program is
// compiled with have no comments, so they are looked up by name.
func (d *describer) comment(of protoreflect.Descriptor) string {
	// Messages of other modules, such as google.protobuf.Timestamp, are not in the contract.
	found, err := d.contract.FindDescriptorByName(of.FullName())
	if err != nil {
		return ""
	}
	location := found.ParentFile().SourceLocations().ByDescriptor(found)
	// A comment may also stand behind a short declaration.
	text := location.LeadingComments
	if text == "" {
		text = location.TrailingComments
	}
	var comment strings.Builder
	begun := false // a paragraph
	for line := range strings.Lines(text) {
		line = strings.TrimPrefix(strings.TrimRight(line, " \r\n"), " ")
		// The page fills its own lines: sentences are joined, and blank lines and lists are kept.
		switch {
		case line == "":
			begun = false
			comment.WriteString("\n\n")
		case begun && !strings.ContainsAny(line[:1], " -*"): // Lists keep their lines, sentences do not.
			comment.WriteString(" " + line)
		case begun:
			comment.WriteString("\n" + line)
		default:
			begun = true
			comment.WriteString(line)
		}
	}
	return strings.TrimSpace(comment.String())
}

// service describes a service, its methods, and by them all messages.
func (d *describer) service(s Service) {
	described := serviceJSON{
		Name:    string(s.Descriptor.FullName()),
		Comment: d.comment(s.Descriptor),
		Target:  s.Conn.Target(),
	}
	if options, ok := s.Descriptor.ParentFile().Options().(*descriptorpb.FileOptions); ok {
		described.Package = options.GetGoPackage()
	}
	for i := range s.Descriptor.Methods().Len() {
		m := s.Descriptor.Methods().Get(i)
		options, _ := m.Options().(*descriptorpb.MethodOptions)
		described.Methods = append(described.Methods, methodJSON{
			Name: string(
				m.Name(),
			),
			Comment: d.comment(m),
			// The first label is grpc_type.
			Mode:       telemetry.MethodLabelValues(m)[0],
			Safe:       isSafe(m),
			Deprecated: options.GetDeprecated(),
			Input:      d.message(m.Input()),
			Output:     d.message(m.Output()),
		})
	}
	d.Services = append(d.Services, described)
}

// message describes a message, and what it has in it, unless it is known, and returns its name.
func (d *describer) message(m protoreflect.MessageDescriptor) string {
	name := string(m.FullName())
	if _, known := d.Messages[name]; known {
		return name
	}
	d.Messages[name] = messageJSON{} // It may have itself in it.
	described := messageJSON{Comment: d.comment(m), Fields: []fieldJSON{}}
	for i := range m.Oneofs().Len() {
		// protoc makes a synthetic oneof for each field that is optional in proto3; it is not in the
		// contract.
		if oneof := m.Oneofs().Get(i); !oneof.IsSynthetic() {
			described.Oneofs = append(described.Oneofs, oneofJSON{string(oneof.Name()), d.comment(oneof)})
		}
	}
	for i := range m.Fields().Len() {
		described.Fields = append(described.Fields, d.field(m.Fields().Get(i)))
	}
	d.Messages[name] = described
	return name
}

// field describes a field; its message or enum is described under its own name.
func (d *describer) field(f protoreflect.FieldDescriptor) fieldJSON {
	described := fieldJSON{
		Name: string(
			f.Name(),
		),
		JSON:     f.JSONName(),
		Comment:  d.comment(f),
		Kind:     f.Kind().String(),
		Repeated: f.IsList(),
		// A message is left out or there in any case; the page needs to know it only of scalars.
		Optional: f.HasPresence() && f.Message() == nil,
	}
	if oneof := f.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		described.Oneof, described.Optional = string(oneof.Name()), false
	}
	switch {
	case f.IsMap():
		// The kind of a map's values, with their type.
		value := d.field(f.MapValue())
		described.Kind, described.Key, described.Value = "map", f.MapKey().Kind().String(), &value
	case f.Message() != nil:
		described.Kind, described.Type = "message", d.message(f.Message())
	case f.Enum() != nil:
		described.Type = d.enum(f.Enum())
	}
	return described
}

// enum describes an enum, unless it is known, and returns its name.
func (d *describer) enum(e protoreflect.EnumDescriptor) string {
	name := string(e.FullName())
	if _, known := d.Enums[name]; known {
		return name
	}
	described := enumJSON{Comment: d.comment(e)}
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		described.Values = append(
			described.Values,
			valueJSON{string(v.Name()), int32(v.Number()), d.comment(v)},
		)
	}
	d.Enums[name] = described
	return name
}

// serveCatalogue answers with what the page shows. X-Rights says what the token of the request
// admits to, so that the page hides what would be refused.
func (c *Console) serveCatalogue(w http.ResponseWriter, _ *http.Request, granted rights) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Rights", map[rights]string{reading: "read", everything: "write"}[granted])
	_, _ = w.Write(c.catalogue) // It fails if the peer is gone.
}
