package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"

	"example.com/quartet/internal/telemetry"
)

// PermitName is the error with which a call ends whose caller may not use a name, such as
// ("object", "shop/cart"). A handler asks as soon as it knows the name, and before anything tells
// whether there is such a thing. The kind is one of Service.NameKinds. The stream of a call that
// goes on ends when the permission for one of its names is withdrawn. Where permissions have names,
// a call that answers before its handler has asked, or has called UseNoName, ends with INTERNAL.
func PermitName(ctx context.Context, kind, name string) error {
	return permit(ctx, usedName{kind: kind, name: name})
}

// PermitPrefix is PermitName for all names that begin with prefix, as a list asks for them. The
// empty prefix is all names.
func PermitPrefix(ctx context.Context, kind, prefix string) error {
	return permit(ctx, usedName{kind, prefix, true})
}

// UseNoName is for a handler whose answer tells of no name, although its service has NameKinds.
func UseNoName(ctx context.Context) {
	if a, _ := ctx.Value(admissionKey{}).(*admission); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.nameless = true
	}
}

func permit(ctx context.Context, one usedName) error {
	a, _ := ctx.Value(admissionKey{}).(*admission)
	if a == nil || a.access == nil {
		return nil
	}
	return a.permit(one)
}

// maxUsedNames bounds what a call remembers.
const maxUsedNames = 100

// usedName is a name that a call uses, or a prefix for all names that begin with it.
type usedName struct {
	kind, name string
	prefix     bool
}

// String is for the client, which is not told a name that it may not have known.
func (u usedName) String() string {
	if u.prefix {
		return "this prefix of " + u.kind + " names"
	}
	return "this " + u.kind
}

// admission is what is known of a call that was admitted, as long as it lasts.
type admission struct {
	log *slog.Logger
	// access is nil if every call is permitted with every name.
	access  *access
	callers []string // the names of its caller
	method  string

	mu       sync.Mutex
	used     []usedName
	nameless bool // by UseNoName
	// first has room for the names of most calls.
	first [2]usedName
}

// admissionKey is for the admission in the context of a stream, and of a unary call if a rule has
// names.
type admissionKey struct{}

// permit remembers a name with the call if the caller may use it beside those before.
func (a *admission) permit(one usedName) error {
	if a.access.permissions.Load() == nil {
		return nil
	}
	if !a.access.kinds.has(a.method, one.kind) {
		return fmt.Errorf("the service of %s has no %q among its NameKinds", a.method, one.kind)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	used := a.used
	if used == nil {
		used = a.first[:0]
	}
	if !slices.Contains(used, one) {
		used = append(used, one)
	}
	if len(used) > maxUsedNames {
		return clientFault(codes.ResourceExhausted, "a call may use at most %d names", maxUsedNames)
	}
	if err := a.access.mayCall(a.callers, a.method, used); err != nil {
		return err
	}
	a.used = used
	return nil
}

// mayAnswer is the error for an answer of a handler that has forgotten to ask: then nothing has
// seen to it that the caller may use the name. The admission may be nil.
func (a *admission) mayAnswer() error {
	if a == nil || !a.access.restrictsNames() || len(a.access.kinds.of(a.method)) == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.used) > 0 || a.nameless {
		return nil
	}
	return fmt.Errorf("%s answers, and has called neither PermitName nor UseNoName", a.method)
}

// usedIn are the names that a call has used until now.
func usedIn(ctx context.Context) []usedName {
	a, _ := ctx.Value(admissionKey{}).(*admission)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.used)
}

// namePatterns are those of a rule by kind. Each is a name, or a prefix of names and "*".
type namePatterns map[string][]string

// UnmarshalJSON implements json.Unmarshaler. It refuses what restricts nothing: "names" with nothing
// behind it is a rule that was not finished.
func (n *namePatterns) UnmarshalJSON(content []byte) error {
	var byKind map[string][]string
	if err := json.Unmarshal(content, &byKind); err != nil {
		return err
	}
	if len(byKind) == 0 {
		return errors.New(`names: has no kind, expected {"kind": ["name", "prefix*"]}`)
	}
	*n = byKind
	return nil
}

// match tells whether all names that a call uses are among those of the rule.
func (n namePatterns) match(used []usedName) bool {
	if n == nil {
		return true
	}
	for _, one := range used {
		patterns, restricted := n[one.kind]
		if restricted && !slices.ContainsFunc(patterns, one.matches) {
			return false
		}
	}
	return true
}

// matches tells whether a name is that of the pattern, or all names of a prefix are. Names have no
// parts: nothing about "/" is special.
func (u usedName) matches(pattern string) bool {
	if begin, ok := strings.CutSuffix(pattern, anything); ok {
		return strings.HasPrefix(u.name, begin)
	}
	return !u.prefix && u.name == pattern
}

// validateNames refuses kinds that no method of the rule uses, because such a line would restrict
// nothing, and patterns that could not match what their author means.
func (r permissionRule) validateNames(kinds nameKinds) error {
	for _, kind := range slices.Sorted(maps.Keys(r.Names)) {
		switch known := kinds.all(); {
		case len(known) == 0:
			return fmt.Errorf("names: kind %q: no service of this server has names", kind)
		case !slices.Contains(known, kind):
			return fmt.Errorf("names: kind %q is none of %s", kind, strings.Join(known, ", "))
		case !slices.ContainsFunc(r.Methods, func(m string) bool { return kinds.mayHave(m, kind) }):
			return fmt.Errorf("names: no method of this rule uses names of the kind %q", kind)
		case len(r.Names[kind]) == 0:
			return fmt.Errorf("names: kind %q needs patterns", kind)
		}
		for _, pattern := range r.Names[kind] {
			if pattern == "" || strings.Contains(strings.TrimSuffix(pattern, anything), anything) {
				return fmt.Errorf("names: pattern %q of kind %q is neither a name nor a prefix of names and * at its end",
					telemetry.Text(pattern), kind)
			}
		}
	}
	return nil
}

// nameKinds are the kinds of names that services use, by the full name of the service.
type nameKinds map[string][]string

// all are the kinds of all services, in order.
func (n nameKinds) all() []string {
	return slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, kinds := range n {
			for _, kind := range kinds {
				if !yield(kind) {
					return
				}
			}
		}
	}))
}

// of are the kinds of the service of a method, "/package.Service/Method".
func (n nameKinds) of(fullMethod string) []string {
	service, _, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	return n[service]
}

// has tells whether the service of a method uses names of a kind.
func (n nameKinds) has(fullMethod, kind string) bool {
	return slices.Contains(n.of(fullMethod), kind)
}

// mayHave is has for a method as rules spell it, which may be any.
func (n nameKinds) mayHave(method, kind string) bool {
	return method == anything || n.has(method, kind)
}
