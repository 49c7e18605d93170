package rpc

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// using is a handler that uses names and then does the rest.
func using(rest func(context.Context) error, names ...usedName) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, one := range names {
			if err := permit(ctx, one); err != nil {
				return err
			}
		}
		return rest(ctx)
	}
}

// startNamed starts a server whose service uses names of the kinds book and page.
func startNamed(
	t *testing.T, handle func(context.Context) error, rules ...permissionRule,
) *secured {
	t.Helper()
	s := newSecured(t, rules...)
	s.nameKinds = []string{"page", "book"}
	s.running = s.start(t, handle)
	return s
}

// mine is a rule for the client of the test.
func mine(names namePatterns) permissionRule {
	return permissionRule{Callers: []string{"uri:" + spiffe}, Methods: []string{testService + "*"},
		Names: names}
}

func book(name string) usedName { return usedName{kind: "book", name: name} }
func page(name string) usedName { return usedName{kind: "page", name: name} }

func TestOnlyPermittedNamesAreUsed(t *testing.T) {
	shop := mine(namePatterns{"book": {"shop/*", "exact"}})
	for _, test := range []struct {
		name  string
		rules []permissionRule
		used  []usedName
		// denied is how the client is told what it must not use, "" if it may.
		denied string
	}{
		{"a name below the prefix", []permissionRule{shop}, []usedName{book("shop/cart")}, ""},
		{"the prefix itself", []permissionRule{shop}, []usedName{book("shop/")}, ""},
		{"a name that begins almost so", []permissionRule{shop}, []usedName{book("shopping/cart")},
			"this book"},
		{"less than the prefix", []permissionRule{shop}, []usedName{book("shop")}, "this book"},
		{"an exact name", []permissionRule{shop}, []usedName{book("exact")}, ""},
		{"a longer name than the exact one", []permissionRule{shop}, []usedName{book("exactly")},
			"this book"},
		{"no name", []permissionRule{shop}, []usedName{book("")}, "this book"},
		{"another kind", []permissionRule{shop}, []usedName{page("any")}, ""},
		{"a kind beside a foreign one", []permissionRule{shop}, []usedName{page("any"), book("any")},
			"this page and this book"},
		{"any name by a pattern", []permissionRule{mine(namePatterns{"book": {"*"}})},
			[]usedName{book("any"), {"book", "", true}}, ""},
		{"a prefix within the prefix", []permissionRule{shop}, []usedName{{"book", "shop/c", true}}, ""},
		{"the whole prefix", []permissionRule{shop}, []usedName{{"book", "shop/", true}}, ""},
		{"a prefix around the prefix", []permissionRule{shop}, []usedName{{"book", "shop", true}},
			"this prefix of book names"},
		{"all names", []permissionRule{shop}, []usedName{{"book", "", true}}, "this prefix of book names"},
		{"an exact name as a prefix, of which there may be others", []permissionRule{shop},
			[]usedName{{"book", "exact", true}}, "this prefix of book names"},
		{"one of two rules", []permissionRule{shop, mine(namePatterns{"book": {"other"}})},
			[]usedName{book("other")}, ""},
		{"a rule without names beside it", []permissionRule{shop, mine(nil)},
			[]usedName{book("other")}, ""},
		{"another caller's rule", []permissionRule{shop,
			{Callers: []string{"dns:other"}, Methods: []string{"*"}}}, []usedName{book("other")}, "this book"},
		{"another method's rule", []permissionRule{shop,
			{Callers: []string{"*"}, Methods: []string{"x.Y/*"}}}, []usedName{book("other")}, "this book"},
		{"two kinds in one rule",
			[]permissionRule{mine(namePatterns{"book": {"a/*"}, "page": {"alice"}})},
			[]usedName{book("a/x"), page("alice")}, ""},
		{"two kinds of which one rule has either", []permissionRule{
			mine(namePatterns{"book": {"a/*"}, "page": {"alice"}}),
			mine(namePatterns{"book": {"b/*"}, "page": {"bob"}}),
		}, []usedName{book("a/x"), page("bob")}, "this book and this page"},
		{"the same in the other order", []permissionRule{
			mine(namePatterns{"book": {"a/*"}, "page": {"alice"}}),
			mine(namePatterns{"book": {"b/*"}, "page": {"bob"}}),
		}, []usedName{page("bob"), book("a/x")}, "this page and this book"},
		{"two names of one kind that no rule has both of", []permissionRule{
			mine(namePatterns{"book": {"a"}}), mine(namePatterns{"book": {"b"}}),
		}, []usedName{book("a"), book("b")}, "this book and this book"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startNamed(t, using(succeed, test.used...), test.rules...)
			for i, mode := range modes {
				err := mode.call(testContext(t), s.stub, 1)
				if test.denied == "" {
					if err != nil {
						t.Errorf("%s: %v", mode.name, err)
					}
					continue
				}
				told := "/" + testService + methodsOfModes[i] + " with " + test.denied + " to a caller"
				if status.Code(err) != codes.PermissionDenied || Reason(err) != "NOT_PERMITTED" ||
					!strings.Contains(err.Error(), told) {
					t.Errorf("%s: %v, expected that it is told %q", mode.name, err, told)
				}
				if got := s.handled(t, methodsOfModes[i], "PermissionDenied"); got != 1 {
					t.Errorf("%s: %v calls are counted", mode.name, got)
				}
			}
			last := test.used[len(test.used)-1]
			want := fmt.Sprintf("%s=%s", last.kind, last.name)
			if last.name == "" {
				want = last.kind + `=""`
			}
			if logged := s.logged.String(); test.denied != "" &&
				(!strings.Contains(logged, `msg="call not permitted"`) || !strings.Contains(logged, want)) {
				t.Errorf("expected %q in what is logged: %s", want, logged)
			}
		})
	}
}

func TestWithoutPermissionsAllNamesAreUsed(t *testing.T) {
	handle := using(succeed, book("any"), usedName{"book", "", true})
	for name, r := range map[string]*running{
		"with certificates":    startNamed(t, handle).running,
		"without certificates": defaults().start(t, handle),
	} {
		for _, mode := range modes {
			if err := mode.call(testContext(t), r.stub, 1); err != nil {
				t.Errorf("%s, %s: %v", name, mode.name, err)
			}
		}
	}
}

// TestOpenStreamsEndWhenTheirNamesAreWithdrawn has streams that use a name end when no rule allows
// it any more, and not before.
func TestOpenStreamsEndWhenTheirNamesAreWithdrawn(t *testing.T) {
	entered := make(chan struct{}, 10)
	for name, before := range map[string]permissionRule{
		"with a rule that had more":     mine(namePatterns{"book": {"shop/*", "other/*"}}),
		"with a rule that had no names": mine(nil),
	} {
		t.Run(name, func(t *testing.T) {
			s := startNamed(t, using(stay(entered), page("any"), book("shop/cart")), before)
			ended := s.open(testContext(t), t, entered)
			s.allow(t, mine(namePatterns{"book": {"shop/*"}}))
			eventually(t, "the file is read", func() bool {
				return strings.Contains(s.logged.String(), "permissions reloaded")
			})
			s.write(t, withNames("*", `{"tome": ["other/*"]}`))
			eventually(t, "the mistake is logged", func() bool {
				return strings.Contains(s.logged.String(), `kind \"tome\" is none of book, page`)
			})
			select {
			case err := <-ended:
				t.Fatalf("a stream ends whose name is permitted, or with a mistake in the file: %v", err)
			default:
			}
			began := time.Now()
			s.allow(t, mine(namePatterns{"book": {"other/*"}}))
			wantEnded(t, ended, codes.PermissionDenied, "NOT_PERMITTED")
			t.Logf("they ended %s after the file was written", time.Since(began))
		})
	}
}

func TestAServiceIsToldOfAKindThatItHasNotNamed(t *testing.T) {
	s := startNamed(t, using(succeed, usedName{kind: "tome", name: "x"}), mine(nil))
	for _, mode := range modes[1:] {
		if err := mode.call(testContext(t), s.stub, 1); status.Code(err) != codes.Internal {
			t.Errorf("%s: %v", mode.name, err)
		}
	}
}

// TestAHandlerThatDoesNotAskForANameAnswersNothing has a handler that forgets to ask, which must
// not open a service to callers that may use only some names.
func TestAHandlerThatDoesNotAskForANameAnswersNothing(t *testing.T) {
	useNone := func(ctx context.Context) error { UseNoName(ctx); return nil }
	ignore := func(ctx context.Context) error { _ = PermitName(ctx, "book", "other"); return nil }
	some := mine(namePatterns{"book": {"shop/*"}})
	for _, test := range []struct {
		name   string
		rule   permissionRule
		handle func(context.Context) error
		want   codes.Code
	}{
		{"it asks for nothing", some, succeed, codes.Internal},
		{"it answers although it was refused", some, ignore, codes.Internal},
		{"it says that it uses none", some, useNone, codes.OK},
		{"it asks", some, using(succeed, book("shop/cart")), codes.OK},
		{"no rule has names", mine(nil), succeed, codes.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startNamed(t, test.handle, test.rule)
			for _, mode := range modes {
				if err := mode.call(testContext(t), s.stub, 1); status.Code(err) != test.want {
					t.Errorf("%s: %v", mode.name, err)
				}
			}
			logged := s.logged.String()
			if test.want != codes.OK && !strings.Contains(logged, "has called neither PermitName") {
				t.Error(logged)
			}
		})
	}
}

func TestACallUsesSoManyNamesOnly(t *testing.T) {
	var names []usedName
	for i := range maxUsedNames {
		names = append(names, book(fmt.Sprintf("shop/%d", i)), book("shop/0")) // The second one is known.
	}
	rule := mine(namePatterns{"book": {"shop/*"}})
	enough := startNamed(t, using(succeed, names...), rule)
	tooMany := startNamed(t, using(succeed, append(names, book("shop/more"))...), rule)
	for _, mode := range modes {
		if err := mode.call(testContext(t), enough.stub, 1); err != nil {
			t.Errorf("%s: %v", mode.name, err)
		}
		err := mode.call(testContext(t), tooMany.stub, 1)
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: %v", mode.name, err)
		}
	}
	if got := tooMany.sum(t, map[string]string{
		"grpc_code": "ResourceExhausted", "grpc_fault": "client",
	}); got != float64(len(modes)) {
		t.Errorf("%v of %d refusals count as their callers' fault", got, len(modes))
	}
}

// TestNamesCostNothingUnlessARuleHasSome counts what is allocated to ask about names.
func TestNamesCostNothingUnlessARuleHasSome(t *testing.T) {
	asked := func(ctx context.Context) float64 {
		return testing.AllocsPerRun(100, func() {
			if PermitName(ctx, "book", "shop/cart") != nil || PermitName(ctx, "page", "1") != nil {
				panic("denied")
			}
		})
	}
	var allocations float64
	s := startNamed(t, func(ctx context.Context) error {
		allocations = asked(ctx)
		if _, unary := ctx.Value(admissionKey{}).(*admission); unary {
			allocations++
		}
		return nil
	}, mine(nil))
	if err := modes[0].call(testContext(t), s.stub, 1); err != nil || allocations != 0 {
		t.Errorf("a unary call: %v, %v allocations", err, allocations)
	}
	s = startNamed(t, func(ctx context.Context) error {
		allocations = asked(ctx)
		return nil
	}, mine(nil))
	if err := modes[3].call(testContext(t), s.stub, 1); err != nil || allocations != 0 {
		t.Errorf("a stream: %v, %v allocations", err, allocations)
	}
}
