package project

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/quartet/tools/internal/lock"
)

// repository is this repository.
const repository = "../../.."

func answers(module, name, service string) lock.Lock {
	return lock.Lock{Module: module, Name: name, Services: []string{"echo"}, Service: service}
}

func TestAwkwardNamesAreRightOrRefused(t *testing.T) {
	const module = "github.com/acme/orders-api"
	long := strings.Repeat("a", maxName)
	all, err := Services(repository)
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []lock.Lock{
		answers(module, "orders", ""),
		answers("go.acme-corp.dev/platform/v1.shop-api", "big-shop24", "PurchaseOrder"),
		answers("github.com/Acme/Orders_2", "o-r-d", "Order"),
		answers("example.org/x", long, "Customer"),
		answers("github.com/acme/echo", "orders", "HTTPProxy"),
		{Module: module, Name: "orders", Services: all},
	} {
		if err := Validate(repository, good); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for why, bad := range map[string]lock.Lock{
		"no module":                              answers("", "orders", ""),
		"a module without a dot":                 answers("orders", "orders", ""),
		"a module with a blank":                  answers("github.com/acme/or ders", "orders", ""),
		"a module that begins with a dash":       answers("-x.org/orders", "orders", ""),
		"a module of a major version":            answers("github.com/acme/orders/v2", "orders", ""),
		"a module with the template's name":      answers("github.com/acme/quartet-orders", "orders", ""),
		"no name":                                answers(module, "", ""),
		"a name with a dot":                      answers(module, "or.ders", ""),
		"a name with upper case":                 answers(module, "Orders", ""),
		"a name that begins with a digit":        answers(module, "4orders", ""),
		"a name that ends with a dash":           answers(module, "orders-", ""),
		"a name with two dashes":                 answers(module, "big--shop", ""),
		"a name with an underscore":              answers(module, "big_shop", ""),
		"a name that makes DNS labels too long":  answers(module, long+"a", ""),
		"a keyword of Go":                        answers(module, "type", ""),
		"a keyword of Go, with a dash":           answers(module, "re-turn", ""), /* return */
		"a name that Go has declared":            answers(module, "string", ""),
		"a folder that the go command hides":     answers(module, "internal", ""),
		"a function of Go's own":                 answers(module, "init", ""),
		"a truth value of YAML":                  answers(module, "on", ""),
		"the other chart":                        answers(module, "platform", ""),
		"a package that is imported beside it":   answers(module, "app", ""),
		"a variable beside it":                   answers(module, "server", ""),
		"the template's own name":                answers(module, "quartet", ""),
		"the name of a service":                  answers(module, "echo", ""),
		"the name that the service had":          answers(module, "echo-shop", "Order"),
		"a namespace of Kubernetes":              answers(module, "kube-system", ""),
		"the variables of Kubernetes in pods":    answers(module, "kubernetes-service", ""),
		"variables that the chart sets":          answers(module, "pod", ""),
		"a service with the tests of the host":   answers(module, "orders", "Log"),
		"a service in lower case":                answers(module, "orders", "order"),
		"a service with its ending":              answers(module, "orders", "OrderService"),
		"a service that is a keyword":            answers(module, "orders", "Type"),
		"a service that Go cannot import":        answers(module, "orders", "Init"),
		"a service that the go command leaves":   answers(module, "orders", "Documentation"),
		"a service that is another RPC":          answers(module, "orders", "Expand"),
		"a service that is a type of the client": answers(module, "orders", "Client"),
		"a service that is an imported package":  answers(module, "orders", "Text"),
		"a service whose file is there":          answers(module, "orders", "Commands"),
		"a service of the host's variables":      answers(module, "orders", "Rpc"),
		"a service that is the product":          answers(module, "orders", "Orders"),
		"a service with the name that it had":    answers(module, "orders", "EchoChamber"),
		"no services":                            {Module: module, Name: "orders"},
		"a service that there is not":            {Module: module, Name: "orders", Services: []string{"echo", "mail"}},
		"a service twice":                        {Module: module, Name: "orders", Services: []string{"echo", "echo"}},
		"services without echo":                  {Module: module, Name: "orders", Services: slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == "echo" })},
	} {
		if err := Validate(repository, bad); err == nil {
			t.Errorf("%s: %+v is not refused", why, bad)
		}
	}
}

func TestEachFormOfANameHasItsOwn(t *testing.T) {
	l := answers("go.acme.dev/x/shop-api", "big-shop24", "PurchaseOrder")
	product, service := newReplacer(productRules(l)), newReplacer(serviceRules(l.Service))
	for old, want := range map[string]string{
		`"example.com/quartet/internal/app"`:             `"go.acme.dev/x/shop-api/internal/app"`,
		`quartetv1 "example.com/quartet/gen/quartet/v1"`: `bigshop24v1 "go.acme.dev/x/shop-api/gen/bigshop24/v1"`,
		"package quartet.v1;":                            "package bigshop24.v1;",
		"// Package quartet names the product.":          "// Package bigshop24 names the product.",
		`"\n\npackage quartet\n"`:                        `"\n\npackage bigshop24\n"`,
		"package quartet":                                "package bigshop24",
		"quartet.Identity":                               "bigshop24.Identity",
		"quartetv1.File_quartet_v1_echo_proto":           "bigshop24v1.File_bigshop24_v1_purchaseorder_proto",
		"proto/quartet/v1/echo.proto":                    "proto/bigshop24/v1/purchaseorder.proto",
		"QUARTET_LOG_LEVEL":                              "BIG_SHOP24_LOG_LEVEL",
		"quartet_build_info":                             "big_shop24_build_info",
		"quartet:slo_page{}":                             "big_shop24:slo_page{}",
		"alert: QuartetUnaryLatency":                     "alert: BigShop24UnaryLatency",
		"docs/runbook.md#quartetunarylatency":            "docs/runbook.md#bigshop24unarylatency",
		`### \(Quartet.*\)`:                              `### \(BigShop24.*\)`,
		"func TestQuartet(":                              "func TestBigShop24(",
		`"Quartet: calls"`:                               `"Big Shop24: calls"`,
		`{{ include "quartet.fullname" . }}`:             `{{ include "big_shop24.fullname" . }}`,
		`printf "quartet.%sproblems"`:                    `printf "big_shop24.%sproblems"`,
		`"quartet\.prefix"`:                              `"big_shop24\.prefix"`,
		`(?:grpc_SIDE|quartet)_[a-z]+`:                   `(?:grpc_SIDE|big_shop24)_[a-z]+`,
		"IMAGE_REPO_quartet_server":                      "IMAGE_REPO_big_shop24_server",
		"image: quartet/server":                          "image: big-shop24/server",
		"charts/quartet/values.yaml":                     "charts/big-shop24/values.yaml",
		"svc/quartet-server":                             "svc/big-shop24-server",
		`Name: "quartet"`:                                `Name: "big-shop24"`,
		"service EchoService {":                          "service PurchaseOrderService {",
		"rpc Echo(EchoRequest)":                          "rpc PurchaseOrder(PurchaseOrderRequest)",
		"ECHO_TRAFFIC_ECHOES":                            "PURCHASEORDER_TRAFFIC_PURCHASEORDERS",
		"cfg.Echoes, echoCommand, client/echo":           "cfg.PurchaseOrders, purchaseOrderCommand, client/purchaseorder",
		"quartetv1.UnsafeEchoServiceServer":              "bigshop24v1.UnsafePurchaseOrderServiceServer",
	} {
		if got := product.replace(service.replace(old)); got != want {
			t.Errorf("%s becomes %s, expected %s", old, got, want)
		}
	}
	for one, many := range map[string]string{"Order": "Orders", "Party": "Parties", "Box": "Boxes", "Day": "Days", "Class": "Classes"} {
		if got := plural(one); got != many {
			t.Errorf("several of %s are %s, expected %s", one, got, many)
		}
	}
}

func TestNamesThatAreNotExportedBeginWithAWordInLowerCase(t *testing.T) {
	for name, want := range map[string]string{
		"Order": "order", "PurchaseOrder": "purchaseOrder", "HTTPProxy": "httpProxy", "ORDER": "order",
		"API2": "api2", "X": "x", "XRay": "xRay",
	} {
		if got := lowerFirst(name); got != want {
			t.Errorf("%s becomes %s, expected %s", name, got, want)
		}
	}
}

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACopyHasTheLinesAsTheyAreCommitted(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	const text = "#!/bin/sh\necho a line\n"
	write(t, from, map[string]string{"script": text})
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"config", "user.name", "test"},
		{"config", "user.email", "test@localhost"},
		{"config", "commit.gpgsign", "false"},
		{"add", "--all"},
		{"commit", "--quiet", "--message", "a commit"},
		{"config", "core.autocrlf", "true"},
	} {
		command := exec.CommandContext(t.Context(), "git", append([]string{"-C", from}, args...)...)
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, output)
		}
	}
	if err := copyRevision(t.Context(), from, "HEAD", to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "script")); err != nil || string(got) != text {
		t.Errorf("got %q, %v; expected %q", got, err, text)
	}
}

func TestLeftoversAreFoundInTextsAndPaths(t *testing.T) {
	root := t.TempDir()
	l := answers("github.com/acme/echo", "orders", "Order")
	l.Template = "https://example.org/quartet.git"
	if err := l.Write(root); err != nil {
		t.Fatal(err)
	}
	write(t, root, map[string]string{
		"a/QUARTET_x":        "",
		"b.yaml":             "fine\nthe aQuArTeTb\n",
		"client/order/c.go":  "package order // EchoRequest\n",
		"client/order/e.go":  "import \"github.com/acme/echo/server\"\n",
		"internal/app/d.go":  "package app // it echoes\n",
		"Makefile":           "x:\n\techo hello\n",
		"docs/services/x.md": "an echo in a sentence\n",
	})
	got, err := Leftovers(root, l)
	want := []string{
		"a/QUARTET_x",
		"b.yaml:2: the aQuArTeTb",
		"client/order/c.go:1: package order // EchoRequest",
	}
	if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, %v; expected %q", got, err, want)
	}
}

func TestPartsStayOnlyWithTheirServices(t *testing.T) {
	const text = "a\n\n# template:only object channel\nb\n# template:end\n\n<!-- template:only quartet -->\nc\n<!-- template:end -->\n{{- /* template:only echo */}}\nd\n{{- /* template:end */}}\n"
	for services, want := range map[string]string{"echo": "a\n\nd\n", "echo channel": "a\n\nb\n\nd\n", "echo object": "a\n\nb\n\nd\n"} {
		if got, err := cutPart(text, strings.Fields(services)); err != nil || got != want {
			t.Errorf("%s: got %q, %v; expected %q", services, got, err, want)
		}
	}
	for what, text := range map[string]string{
		"no end":   "# template:only object\n",
		"no begin": "# template:end\n",
		"two":      "# template:only object\n# template:only object\n# template:end\n",
	} {
		if _, err := cutPart(text, nil); err == nil {
			t.Errorf("%s is not refused", what)
		}
	}
}

func TestWhatWasBelowEachOtherStaysSoWithOtherNames(t *testing.T) {
	const before = "a  b\n\n  echo/    text\n  rpc/     …\nx  y\nquartet up   # why\nls           # what\none line\n"
	const after = "a  b\n\n  purchaseorder/    text\n  rpc/     …\nx  y\nq up   # why\nls           # what\none line\n"
	const want = "a  b\n\n  purchaseorder/  text\n  rpc/            …\nx  y\nq up         # why\nls           # what\none line\n"
	if got := align(before, after); got != want {
		t.Errorf("got\n%s\nexpected\n%s", got, want)
	}
}

func TestTheMapKeepsWhatIsThere(t *testing.T) {
	root := t.TempDir()
	write(
		t,
		root,
		map[string]string{"server/echo/x.go": "", "client/echo/x.go": "", "README.md": "", "go.mod": ""},
	)
	const readme = "# A\n\n## The map\n\n```\nserver/      the server\n  echo/ object/        services\n    text/    a domain\n  channel/   gone\n    broker/  gone with it\n" +
		"client/      the client\n  echo/      calls\nbench/       gone\n  echo/      gone with it\ngo.mod go.sum\nREADME.md LICENSE\n```\n\n## More\n"
	const want = "server/      the server\n  echo/      services\nclient/      the client\n  echo/      calls\ngo.mod\nREADME.md"
	if got, err := mapOf(readme, root); err != nil || got != want {
		t.Errorf("got\n%s\n%v\nexpected\n%s", got, err, want)
	}
}

func TestPackagesThatNothingImportsAreRemoved(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"server/main.go":            `package main; import _ "example.com/quartet/internal/app"`,
		"internal/app/a.go":         `package app`,
		"internal/app/a_test.go":    `package app; import _ "example.com/quartet/internal/app/apptest"`,
		"internal/app/apptest/a.go": `package apptest`,
		"internal/bulk/a.go":        `package bulk; import _ "example.com/quartet/internal/crc32c"`,
		"internal/bulk/a_test.go":   `package bulk_test; import _ "example.com/quartet/internal/bulk"`,
		"internal/crc32c/a.go":      `package crc32c`,
	})
	if err := prune(root); err != nil {
		t.Fatal(err)
	}
	got, err := files(root)
	want := "internal/app/a.go internal/app/a_test.go internal/app/apptest/a.go server/main.go"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("left are %q, %v; expected %s", got, err, want)
	}
}
