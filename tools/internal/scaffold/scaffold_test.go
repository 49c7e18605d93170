package scaffold

import (
	"bytes"
	"errors"
	"go/format"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// repository is this repository, which is a project too.
const repository = "../../.."

func added(t *testing.T, add func(p *project) error) *project {
	t.Helper()
	p, err := open(repository)
	if err == nil {
		err = add(p)
	}
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range p.changed {
		if path.Ext(file) == ".go" {
			if _, err := format.Source([]byte(text)); err != nil {
				t.Errorf("%s: %v\n%s", file, err, text)
			}
		}
	}
	return p
}

func TestAnRPCOfEachModeIsAddedWhereItsServiceIsUsed(t *testing.T) {
	for _, mode := range Modes {
		t.Run(mode, func(t *testing.T) {
			p := added(t, func(p *project) error { return p.addRPC(RPC{"Echo", "TryIt", mode}) })
			for file, want := range map[string]string{
				"proto/quartet/v1/echo.proto": "rpc TryIt(",
				"server/echo/try_it.go":       "func (s *service) TryIt(",
				"server/echo/try_it_test.go":  "func TestTryIt(",
				"client/echo/try_it.go":       "func (c *Client) TryIt(",
				"client/echo/try_it_test.go":  "func (f *fake) TryIt(",
				"client/echo/config.go":       `traffic.ValidRate("TRAFFIC_TRY_IT", c.TryIt)`,
				"client/echo/traffic.go":      `{Method: "TryIt", Rate: c.TryIt, Do: verifyTryIt(s)}`,
				"client/echo/service.go":      `{Method: "TryIt", Do: verifyTryIt(s)}`,
			} {
				if !strings.Contains(p.changed[file], want) {
					t.Errorf("%s has no %s:\n%s", file, want, p.changed[file])
				}
			}
			if len(p.changed) != 8 {
				t.Errorf("%d files have changed", len(p.changed))
			}
		})
	}
}

func TestAnRPCMayHaveANameThatGoHasInLowerCase(t *testing.T) {
	for _, name := range []string{"Delete", "Return", "Type", "Import"} {
		p := added(t, func(p *project) error { return p.addRPC(RPC{"Echo", name, "unary"}) })
		file := "server/echo/" + strings.ToLower(name) + ".go"
		if want := "func (s *service) " + name + "("; !strings.Contains(p.changed[file], want) {
			t.Errorf("%s has no %s:\n%s", file, want, p.changed[file])
		}
	}
}

// TestCommentsAtTheEndOfAListStayAsTheyAre has a comment after the last element of each list.
func TestCommentsAtTheEndOfAListStayAsTheyAre(t *testing.T) {
	const before = `package order

type Config struct {
	Get float64
}

func (c Config) Validate() error {
	return errors.Join(traffic.ValidRate("GET", c.Get) /* the last one, for now */)
}

func check(s cli.Connection) []cli.Step {
	return []cli.Step{
		{Method: "Get", Do: verifyGet(s)}, // the last one
	}
}

func (c Config) traffic(s cli.Connection) traffic.Source {
	return traffic.Source{Operations: []traffic.Operation{
		// none yet
	}}
}
`
	p := &project{root: t.TempDir(), changed: map[string]string{"client/order/order.go": before}}
	if err := os.MkdirAll(filepath.Join(p.root, "client/order"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := p.addToClient(facts{RPC: RPC{Name: "Cancel"}}, "client/order"); err != nil {
		t.Fatal(err)
	}
	formatted, err := format.Source([]byte(p.changed["client/order/order.go"]))
	if err != nil {
		t.Fatalf("%v:\n%s", err, p.changed["client/order/order.go"])
	}
	for _, want := range []string{
		"c.Get), /* the last one, for now */\n\t\ttraffic.ValidRate(\"TRAFFIC_CANCEL\", c.Cancel),\n",
		"// the last one\n\t\t{Method: \"Cancel\"",
		"// none yet\n\t\t{Method: \"Cancel\"",
	} {
		if !strings.Contains(string(formatted), want) {
			t.Errorf("there is no %q:\n%s", want, formatted)
		}
	}
}

func TestAServiceIsAddedWithItsFirstRPC(t *testing.T) {
	p := added(t, func(p *project) error {
		if err := p.addService("Customer"); err != nil {
			return err
		}
		return p.addRPC(RPC{"Customer", "GetCustomer", "unary"})
	})
	for file, want := range map[string]string{
		"proto/quartet/v1/customer.proto":      "service CustomerService {\n  // GetCustomer (unary)",
		"server/main.go":                       "\tcustomer.Service(),\n",
		"client/main.go":                       "\tcustomer.Service(),\n",
		"server/customer/get_customer_test.go": "func TestGetCustomer(",
		"client/customer/traffic.go":           `{Method: "GetCustomer", Rate: c.GetCustomer`,
		"client/customer/config.go":            "TRAFFIC_GET_CUSTOMER",
		"docs/services/customer.md":            "CUSTOMER_TRAFFIC_",
	} {
		if !strings.Contains(p.changed[file], want) {
			t.Errorf("%s has no %q:\n%s", file, want, p.changed[file])
		}
	}
}

func TestWhatCannotBeAddedIsRefused(t *testing.T) {
	for why, r := range map[string]RPC{
		"an RPC that is there":       {"Echo", "Expand", "unary"},
		"a service that there isn't": {"Mail", "Send", "unary"},
		"another mode":               {"Echo", "Send", "duplex"},
		"lower case":                 {"Echo", "send", "unary"},
		"a blank":                    {"Echo", "Send It", "unary"},
		"a path":                     {"../x", "Send", "unary"},
		"a file that is there":       {"Echo", "Errors", "unary"},
		"a method of Config":         {"Echo", "Validate", "unary"},
	} {
		p, err := open(repository)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.addRPC(r); err == nil {
			t.Errorf("%s: %+v is not refused", why, r)
		}
	}
	for _, name := range []string{"Echo", "customer", "Type", "Rpc", "Log", "Cluster", "Init", "Testdata", "Documentation", ""} {
		p, err := open(repository)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.addService(name); err == nil {
			t.Errorf("a service %q is not refused", name)
		}
	}
}

// TestWhatDoesNotCompileIsTakenBack has a project in which nothing can be generated.
func TestWhatDoesNotCompileIsTakenBack(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "old.go"), []byte("package old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &project{
		root:    root,
		changed: map[string]string{"old.go": "package older\n", "sub/new.go": "package new\n"},
	}
	if _, err := p.apply(t.Context(), t.Output(), "X"); err == nil {
		t.Error("make generate has passed without a Makefile")
	}
	old, err := os.ReadFile(filepath.Join(root, "old.go"))
	entries, _ := os.ReadDir(root)
	if err != nil || string(old) != "package old\n" || len(entries) != 1 {
		t.Errorf("left is %q, %v, among %v", old, err, entries)
	}
}

func TestFilesHaveNoEndingsThatGoTakesForItself(t *testing.T) {
	for name, want := range map[string]string{
		"GetOrder": "get_order", "Cancel": "cancel", "RunTest": "runtest", "GetLinux": "getlinux", "Linux": "linux", "GetURL2": "get_url2",
	} {
		if got := fileOf(name); got != want {
			t.Errorf("%s is in %s, expected %s", name, got, want)
		}
	}
}

// TestASignalLeavesNothingBehind ends both commands while they generate, which lasts until then.
func TestASignalLeavesNothingBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds two programs")
	}
	programs := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", programs+string(filepath.Separator), "../../rpc", "../../service")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, command := range [][]string{
		{"rpc", "-service", "Echo", "-name", "TryIt"},
		{"service", "-name", "Customer"},
	} {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			t.Run(command[0]+" "+signal.String(), func(t *testing.T) {
				t.Parallel()
				begun := filepath.Join(t.TempDir(), "begun")
				root := copied(t)
				// The first run says that it has begun, and waits; the one after the signal does nothing.
				makefile := "generate:\n\t@[ -e '" + begun + "' ] || { echo >'" + begun + "'; sleep 600; }\n"
				if err := os.WriteFile(filepath.Join(root, "Makefile"), []byte(makefile), 0o644); err != nil {
					t.Fatal(err)
				}
				before := tree(t, root)

				var output bytes.Buffer
				c := exec.CommandContext(t.Context(), filepath.Join(programs, command[0]), append(command[1:], "-project", root)...)
				c.Stdout, c.Stderr = &output, &output
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- c.Wait() }()
				for {
					if _, err := os.Stat(begun); err == nil {
						break
					}
					select {
					case err := <-ended:
						t.Fatalf("it has ended before: %v\n%s", err, &output)
					case <-time.After(10 * time.Millisecond):
					}
				}
				if err := c.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				if exit := new(exec.ExitError); !errors.As(<-ended, &exit) || exit.ExitCode() != 1 {
					t.Errorf("it has ended with %v\n%s", exit, &output)
				}
				after := tree(t, root)
				for name, text := range before {
					if now, there := after[name]; !there || now != text {
						t.Errorf("%s has changed, or is gone:\n%s", name, now)
					}
					delete(after, name)
				}
				if len(after) > 0 {
					t.Errorf("left are %v", slices.Sorted(maps.Keys(after)))
				}
			})
		}
	}
}

// copied is a copy of what the commands read and change of this repository.
func copied(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, folder := range []string{"proto", "server/echo", "client/echo", "docs/services"} {
		from := os.DirFS(filepath.Join(repository, folder))
		if err := os.CopyFS(filepath.Join(root, folder), from); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "server/main.go", "client/main.go"} {
		text, err := os.ReadFile(filepath.Join(repository, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(root, file), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// tree is the text of each file of a folder. Folders have none.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if all[name] = ""; err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		all[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
