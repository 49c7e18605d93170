package scaffold

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// facts are what the files of an RPC are made from.
type facts struct {
	RPC
	// Module is the path of the project's Go module, Import that of the generated package.
	Module, Import, V1 string // V1 is the alias of the generated package
	Package            string // of Go: "order"
	Kind               string // the mode in words
	Receiver           string // the type that answers the service: "service"
	Draining           string // its field that is closed when the drain begins
	Field              string // of Client, what calls the service
}

// Upper begins the variables of the service.
func (f facts) Upper() string { return strings.ToUpper(f.Package) }

// Variable is the name of the rate's variable, without prefixes.
func (f facts) Variable() string { return "TRAFFIC_" + strings.ToUpper(snake(f.Name)) }

// kinds are the modes as comments of the contract and of the code spell them.
var kinds = map[string]string{"unary": "unary", "server": "server streaming", "client": "client streaming", "bidi": "bidirectional"}

// addRPC changes the contract and both sides in memory. Every check comes before apply writes the
// first file.
func (p *project) addRPC(r RPC) error {
	if !slices.Contains(Modes, r.Mode) {
		return fmt.Errorf("MODE: %q is none of %s", r.Mode, strings.Join(Modes, ", "))
	}
	if err := errors.Join(validForm("SERVICE", r.Service), validForm("NAME", r.Name)); err != nil {
		return err
	}
	// The rate is a field of the client's Config, beside its method Validate.
	if r.Name == "Validate" {
		return errors.New("NAME: Validate is a method of Config, which would have a field of that name too")
	}
	// The contract comes first: it says whether there is such a service at all.
	if err := p.addToContract(r); err != nil {
		return err
	}
	folder := strings.ToLower(r.Service)
	// The names of types and fields are not known yet: learnServer and learnClient read them from the
	// code, which people may have renamed.
	f := facts{RPC: r, Module: p.module, Import: p.importPath(), V1: p.alias(), Package: folder, Kind: kinds[r.Mode]}
	if err := p.learnServer(&f, "server/"+folder); err != nil {
		return err
	}
	if err := p.learnClient(&f, "client/"+folder); err != nil {
		return err
	}
	for file, text := range map[string]string{
		path.Join("server", folder, fileOf(r.Name)+".go"):      serverFiles,
		path.Join("server", folder, fileOf(r.Name)+"_test.go"): serverTests,
		path.Join("client", folder, fileOf(r.Name)+".go"):      clientFiles,
	} {
		made, err := execute(text, f.Mode, f)
		if err != nil {
			return err
		}
		if err := p.create(file, made); err != nil {
			return err
		}
	}
	if err := p.addToFake(f, "client/"+folder); err != nil {
		return err
	}
	return p.addToClient(f, "client/"+folder)
}

// addToFake has the server answer that the tests of the client have in place of a real one, if they
// have one.
func (p *project) addToFake(f facts, folder string) error {
	tests, err := filepath.Glob(filepath.Join(p.root, folder, "*_test.go"))
	if err != nil {
		return err
	}
	// The fake is the struct that embeds the generated Unimplemented server of the service.
	embedding := regexp.MustCompile(`type (\w+) struct \{\n(?:\t.*\n|\n)*?\t` + f.V1 + `\.Unimplemented` + f.Service + `ServiceServer\n`)
	for _, test := range tests {
		text, err := os.ReadFile(test)
		if err != nil {
			return err
		}
		// The first fake is enough: the templates put one into each service.
		if found := embedding.FindSubmatch(text); found != nil {
			// The method is one of the fake, and not of the server's type.
			f.Receiver = string(found[1])
			made, err := execute(clientTests, f.Mode, f)
			if err != nil {
				return err
			}
			return p.create(path.Join(folder, fileOf(f.Name)+"_test.go"), made)
		}
	}
	return nil
}

// addToContract adds the RPC to its service, at the end, and its messages to the file.
func (p *project) addToContract(r RPC) error {
	file := path.Join(p.proto, strings.ToLower(r.Service)+".proto")
	// It may have been made by addService, and not be written yet.
	text, err := p.read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("SERVICE: there is no %sService, which would be in %s", r.Service, file)
	}
	if err != nil {
		return err
	}
	// The service's own name, since a file may have several.
	begin := regexp.MustCompile(`(?m)^service ` + r.Service + `Service \{`).FindStringIndex(text)
	if begin == nil {
		return fmt.Errorf("SERVICE: %s has no service %sService", file, r.Service)
	}
	// The messages have names of the RPC, and must not be there either.
	for _, name := range []string{"rpc " + r.Name, "message " + r.Name + "Request", "message " + r.Name + "Response"} {
		if regexp.MustCompile(`(?m)^\s*` + name + `\b`).MatchString(text) {
			return fmt.Errorf("NAME: %s has %s already", file, name)
		}
	}
	end := closing(text, begin[1])
	if end < 0 {
		return fmt.Errorf("%s: the service does not end", file)
	}
	lines, err := execute(protoMethods, r.Mode, r)
	if err != nil {
		return err
	}
	messages, err := execute(protoMessages, "", r)
	if err != nil {
		return err
	}
	// A blank line stands before each RPC but the first.
	head := strings.TrimRight(text[:end], " \n")
	if !strings.HasSuffix(head, "{") {
		head += "\n"
	}
	p.changed[file] = head + "\n" + lines + strings.TrimRight(text[end:], "\n") + "\n" + messages
	return nil
}

// closing is where the block ends that is open at an offset of a .proto, or -1.
// It knows comments of one line and strings, whose braces count for nothing. Block comments are not
// used in the contract.
func closing(text string, from int) int {
	// The opening brace has been read.
	depth := 1
	for i := from; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "//"):
			if end := strings.IndexByte(text[i:], '\n'); end >= 0 {
				i += end
			}
		case text[i] == '"':
			if end := strings.IndexByte(text[i+1:], '"'); end >= 0 {
				i += end + 1
			}
		case text[i] == '{':
			depth++
		case text[i] == '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// learnServer finds the type that answers the service, by the generated interface that it embeds,
// and its field that is closed when the drain begins, by its type.
func (p *project) learnServer(f *facts, folder string) error {
	err := p.eachStruct(folder, func(name string, fields *ast.FieldList) {
		embeds, draining := false, ""
		for _, field := range fields.List {
			// A field without a name is an embedded one.
			if s, ok := field.Type.(*ast.SelectorExpr); ok && len(field.Names) == 0 && strings.HasSuffix(s.Sel.Name, f.Service+"ServiceServer") {
				embeds = true
			}
			// <-chan is the type of app.Host.Draining.
			if c, ok := field.Type.(*ast.ChanType); ok && c.Dir == ast.RECV && len(field.Names) == 1 {
				draining = field.Names[0].Name
			}
		}
		if embeds {
			f.Receiver, f.Draining = name, draining
		}
	})
	if err == nil && (f.Receiver == "" || f.Draining == "") {
		err = fmt.Errorf("%s has no struct that embeds Unsafe%sServiceServer and has a field draining <-chan struct{}", folder, f.Service)
	}
	return err
}

// learnClient finds the field by which a Client calls the service, by its generated type.
func (p *project) learnClient(f *facts, folder string) error {
	err := p.eachStruct(folder, func(name string, fields *ast.FieldList) {
		for _, field := range fields.List {
			if s, ok := field.Type.(*ast.SelectorExpr); ok && name == "Client" && len(field.Names) == 1 && s.Sel.Name == f.Service+"ServiceClient" {
				f.Field = field.Names[0].Name
			}
		}
	})
	if err == nil && f.Field == "" {
		err = fmt.Errorf("%s has no struct Client with a field of the type %sServiceClient", folder, f.Service)
	}
	return err
}

// eachStruct calls each for every struct in the Go files of a folder, in the order of their names.
func (p *project) eachStruct(folder string, each func(name string, fields *ast.FieldList)) error {
	files, err := p.goFiles(folder)
	if err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, files[file], parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					each(spec.Name.Name, s.Fields)
				}
			}
			return true
		})
	}
	return nil
}

// comment is a comment of Go.
var comment = regexp.MustCompile(`//[^\n]*|/\*(?s:.*?)\*/`)

// lacksComma says whether a list has no comma between its last element and its end, where only
// comments are besides.
func lacksComma(rest string) bool { return !strings.Contains(comment.ReplaceAllString(rest, ""), ",") }

// addToClient adds the RPC to the service's check, its steady traffic, and the setting of its rate.
// It finds the places in the parsed code and inserts text there, so that everything else, comments
// included, stays as it is. Places that are missing are an error, with what was expected.
func (p *project) addToClient(f facts, folder string) error {
	files, err := p.goFiles(folder)
	if err != nil {
		return err
	}
	// Each place is taken once: the first that fits.
	done := map[string]bool{}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		text := files[file]
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, file, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		offset := func(pos token.Pos) int { return set.Position(pos).Offset }
		// Insertions are collected by their offset, since each would move the places after it.
		insert := map[int]string{}
		// add puts something at the end of a list that ends with a bracket.
		add := func(what string, open, end token.Pos, elements []ast.Expr, added string) {
			if done[what] {
				return
			}
			done[what] = true
			// After the last element there may be a comma, comments and a new line; gofmt puts it right
			// later.
			inside := strings.TrimRight(text[offset(open)+1:offset(end)], " \t\n")
			if n := len(elements); n > 0 && lacksComma(text[offset(elements[n-1].End()):offset(end)]) {
				insert[offset(elements[n-1].End())] += ","
			}
			insert[offset(open)+1+len(inside)] += added + ",\n"
		}
		for _, declaration := range parsed.Decls {
			switch d := declaration.(type) {
			// The rate becomes a field of Config, at its end.
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok && s.Name.Name == "Config" {
						if fields, ok := s.Type.(*ast.StructType); ok && !done["Config"] {
							done["Config"] = true
							insert[offset(fields.Fields.Closing)] = fmt.Sprintf("\t%s float64 `env:%q envDefault:\"1\" desc:\"serve: calls of %[1]s per second; 0 for none\"`\n",
								f.Name, f.Variable())
						}
					}
				}
			// Lists are found in any function that has what the inserted line refers to.
			case *ast.FuncDecl:
				connection, config := parameter(d, "Connection"), receiver(d, "Config")
				ast.Inspect(d, func(n ast.Node) bool {
					switch n := n.(type) {
					case *ast.CompositeLit:
						switch element(n) {
						case "Step":
							if connection != "" {
								add("[]cli.Step", n.Lbrace, n.Rbrace, n.Elts, fmt.Sprintf("\n{Method: %q, Do: verify%[1]s(%s)}", f.Name, connection))
							}
						case "Operation":
							if connection != "" && config != "" {
								add("[]traffic.Operation", n.Lbrace, n.Rbrace, n.Elts, fmt.Sprintf("\n{Method: %q, Rate: %[2]s.%[1]s, Do: verify%[1]s(%[3]s)}", f.Name, config, connection))
							}
						}
					// The rate is checked where Validate joins the errors of the other rates.
					case *ast.CallExpr:
						if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Join" && d.Name.Name == "Validate" && config != "" {
							add("Validate", n.Lparen, n.Rparen, n.Args, fmt.Sprintf("\ntraffic.ValidRate(%q, %s.%s)", f.Variable(), config, f.Name))
						}
					}
					return true
				})
			}
		}
		// From the end to the beginning, so that the offsets before an insertion stay right.
		for _, at := range slices.Backward(slices.Sorted(maps.Keys(insert))) {
			text = text[:at] + insert[at] + text[at:]
		}
		if len(insert) > 0 {
			p.changed[file] = text
		}
	}
	// Nothing has been written yet, so that an RPC without one of these is not added at all.
	for what, where := range map[string]string{
		"Config":              "a struct Config",
		"Validate":            "a method Validate of Config that returns errors.Join(…)",
		"[]cli.Step":          "a function of a cli.Connection that returns a []cli.Step{…}",
		"[]traffic.Operation": "a method of Config, of a cli.Connection, with a []traffic.Operation{…}",
	} {
		if !done[what] {
			return fmt.Errorf("%s has not %s, to which the RPC is added; README.md has the steps by hand", folder, where)
		}
	}
	return nil
}

// parameter is the name of the parameter of a function whose type has that name in its package.
func parameter(d *ast.FuncDecl, typeName string) string {
	for _, field := range d.Type.Params.List {
		if s, ok := field.Type.(*ast.SelectorExpr); ok && s.Sel.Name == typeName && len(field.Names) == 1 {
			return field.Names[0].Name
		}
	}
	return ""
}

// receiver is the name of a method's receiver, if it is of that type.
func receiver(d *ast.FuncDecl, typeName string) string {
	if d.Recv == nil || len(d.Recv.List) != 1 || len(d.Recv.List[0].Names) != 1 {
		return ""
	}
	// The receiver may be a pointer.
	of := d.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if name, ok := of.(*ast.Ident); !ok || name.Name != typeName {
		return ""
	}
	return d.Recv.List[0].Names[0].Name
}

// element is the type of what a slice has that is written out, without its package.
func element(n *ast.CompositeLit) string {
	if array, ok := n.Type.(*ast.ArrayType); ok {
		if s, ok := array.Elt.(*ast.SelectorExpr); ok {
			return s.Sel.Name
		}
	}
	return ""
}

// execute fills in one of the templates in a text, or all of it if the name is empty.
func execute(text, name string, of any) (string, error) {
	t, err := template.New("").Parse(strings.TrimLeft(text, "\n"))
	if err != nil {
		return "", err
	}
	var made strings.Builder
	err = t.ExecuteTemplate(&made, name, of)
	return made.String(), err
}
