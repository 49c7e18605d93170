# The only door: what people type and what CI runs are the same targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO ?= go
# The race detector needs a C compiler; without one the tests still run.
RACE ?= $(if $(shell command -v $(firstword $(shell $(GO) env CC)) 2>/dev/null),-race)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Tools are pinned in a module of their own, and run from its folder.
TOOL := $(GO) -C tools tool
BUF := $(TOOL) buf
FUZZTIME ?= 30s

.PHONY: help
help: ## Say what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## See it: server and client as two processes, the four modes, a table and the traces (ONCE=1, FILE=…)
	@$(GO) build -o bin/demo ./demo
	@bin/demo

.PHONY: test
test: ## Prove it: all tests that need nothing but Go
	$(GO) test $(RACE) ./...

.PHONY: build
build: ## Build bin/server and bin/client
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./server ./client

.PHONY: generate
generate: ## Make gen/ anew from proto/
	$(BUF) generate ../proto --template ../proto/buf.gen.yaml --output ..

.PHONY: lint
lint: ## Check format, style, import rules, the contract, and that gen/ is fresh
	$(BUF) format ../proto --diff --exit-code
	$(BUF) lint ../proto
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	  $(BUF) generate ../proto --template ../proto/buf.gen.yaml --output "$$fresh" && \
	  diff -r gen "$$fresh/gen" || { echo 'gen/ is stale: run make generate'; exit 1; }
	$$($(TOOL) -n golangci-lint) run ./...

.PHONY: breaking
breaking: ## Check that the contract only grew since AGAINST (a git revision, by default main)
	$(BUF) breaking ../proto --against '../.git#ref=$(or $(AGAINST),main),subdir=proto'

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME
	$(GO) test -run '^$$' -fuzz '^FuzzObjectName$$' -fuzztime $(FUZZTIME) ./server/object
	$(GO) test -run '^$$' -fuzz '^FuzzUpload$$' -fuzztime $(FUZZTIME) ./server/object

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
