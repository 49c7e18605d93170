# All commands of this repository: CI checks changes by the same targets.
# In this form, and not in .SHELLFLAGS, the make of macOS, 3.81, takes the flags too.
SHELL := bash -euo pipefail
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO ?= go
# A workspace in a folder above does not have these modules.
export GOWORK := off
# The race detector needs a C compiler; without one the tests still run.
RACE ?= $(if $(shell command -v $(firstword $(shell $(GO) env CC)) 2>/dev/null),-race)
# How many packages are built or tested at a time: tests mostly wait, so that four fit on two processors.
PACKAGES := -p $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 4); echo $$((n < 4 ? 4 : n)))
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Tools are pinned in a module of their own, and run from its folder.
TOOL := $(GO) -C tools tool
BUF := $(TOOL) buf
FUZZTIME ?= 30s
# template:only object
DURATION ?= 10m
# template:end
# The folders of all modules; the first one is that of the programs.
MODULES := $(patsubst %/,%,$(dir $(wildcard ./go.mod */go.mod */*/go.mod)))

.PHONY: help
help: ## Say what can be done
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# template:only object
# FILE names a file to upload in place of one that the demo makes.
# template:end
.PHONY: demo
demo: ## See it: server and client as two processes, the four modes, a table and the traces (ONCE=1)
	@$(GO) build -o bin/demo ./demo
	@bin/demo

# The race detector allocates too, so the tests that count allocations run once more without it.
.PHONY: test
test: ## Prove it: all tests that need nothing but Go and git
	@trap 'echo "make test took $$SECONDS s"' EXIT; \
	$(GO) test $(PACKAGES) $(RACE) ./...; \
	$(GO) test -run '^TestAllocations' ./internal/telemetry

.PHONY: test-tools
test-tools: ## Test what is in modules of their own, as the checkers of charts and dashboards are
	@for module in $(filter-out . test/e2e,$(MODULES)); do $(GO) -C $$module test $(PACKAGES) ./... || exit; done

# template:only quartet
.PHONY: bench
bench: ## Measure calls and big files as ratios to what else there is, in the same run (RUN=unary,download, ROUNDS=11)
	@$(GO) -C test/bench run . $(RUN:%=-run %) $(ROUNDS:%=-rounds %)

# What is left after a removal has to build, pass, lint and run; an addition may touch its own files and a line in each main.
.PHONY: template
template: ## Remove each service and add one, by the steps in README.md, and make projects, in a copy (CASES="echo new")
	@GO='$(GO)' test/template/run $(CASES)

.PHONY: new
new: ## Make a project of your own (DIR=../orders MODULE=github.com/acme/orders-api NAME=orders SERVICES=echo SERVICE=Order)
	@$(GO) -C tools run ./new -template "$$PWD" -dir "$${DIR-}" -module '$(MODULE)' -name '$(NAME)' \
	  -services '$(or $(SERVICES),echo)' -service '$(SERVICE)'
# template:end

.PHONY: rpc
rpc: ## Add an RPC to a service, to be filled in (SERVICE=Order NAME=Cancel MODE=unary|server|client|bidi)
	@$(GO) -C tools run ./rpc -project "$$PWD" -service '$(SERVICE)' -name '$(NAME)' $(MODE:%=-mode '%')

.PHONY: service
service: ## Add a service with one RPC, to be filled in (NAME=Customer RPC=GetCustomer MODE=unary)
	@$(GO) -C tools run ./service -project "$$PWD" -name '$(NAME)' $(RPC:%=-rpc '%') $(MODE:%=-mode '%')

.PHONY: update
update: ## Take later changes of the template into a project that was made from it, on a branch (FROM=…, TO=…)
	@$(GO) -C tools run ./update -project "$$PWD" -from "$${FROM-}" -to '$(TO)'

.PHONY: build
build: ## Build bin/server and bin/client
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./server ./client

.PHONY: generate
generate: ## Make gen/ anew from proto/, and the schema of the chart's values from services and programs
	$(BUF) generate ../proto --template ../proto/buf.gen.yaml --output ..
	$(BUF) build ../proto --as-file-descriptor-set --exclude-imports --output ../gen/contract.binpb
	$(GO) -C tools run ./chartschema

.PHONY: tidy
tidy: ## Have every go.mod name what its module imports, and nothing else
	@for module in $(MODULES); do $(GO) -C $$module mod tidy || exit; done

.PHONY: fmt
fmt: ## Format Go and proto/
	@$$($(TOOL) -n golangci-lint) fmt
	@$(BUF) format ../proto --write

# Go and the linter remember what they found of a package until the package, or something that it imports, changes. So
# this does again only what a change concerns. The race detector and the tests that take long are left to make test.
.PHONY: check
check: ## Check what has changed, in less than a minute: style and short tests
	@trap 'echo "make check took $$SECONDS s"' EXIT; status=0; \
	$$($(TOOL) -n golangci-lint) run ./... || status=1; \
	for module in $(filter-out .,$(MODULES)); do $(GO) -C $$module vet ./... || status=1; done; \
	$(GO) test -short ./... | { grep -v -e '(cached)$$' -e '\[no test files\]$$' || :; } || status=1; \
	exit $$status

.PHONY: lint
lint: ## Check format, style, layout, the contract, that gen/ is fresh, charts, dashboards, alerts and diagrams
	@GO='$(GO)' tools/lint

.PHONY: breaking
breaking: ## Check that the contract only grew since AGAINST (a git revision, by default main)
	$(BUF) breaking ../proto --against '../.git#ref=$(or $(AGAINST),main),subdir=proto'

# template:only quartet
.PHONY: attack
attack: ## Attack a server beside a quiet neighbour, and show what it notices, in 15 minutes (RUN=gzip,…, MEMORY=512, ARGS=-help)
	@$(GO) build -o bin/ ./server ./test/attack
	@bin/attack $(RUN:%=-run %) $(MEMORY:%=-memory %) $(ARGS)
# template:end

# Minimizing what is new takes a minute by default, and calls over a network seldom take the same way twice: an input is
# not worth more than a second of the time.
.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME, 30s by default; their seeds are part of make test
	@mkdir -p bin; git -c grep.lineNumber=false -c grep.column=false -c grep.fullName=false grep --no-color \
	  -oE '^func Fuzz[A-Za-z0-9]+' -- '*_test.go' | while IFS=: read -r file target; do \
	  $(GO) test -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s "./$${file%/*}" </dev/null 2>&1 | \
	    tee bin/fuzz.log || exit; \
	  ! grep -q 'no fuzz tests to fuzz' bin/fuzz.log || exit 1; \
	done

.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in what the programs call, and in the Go that builds them
	@GO='$(GO)' tools/vulncheck

# template:only object
.PHONY: soak
soak: ## Break everything at random for DURATION while a model checks every answer (SEED=…)
	@packages=$$($(GO) list ./test/... | grep /test/soak/ || :); \
	[ -n "$$packages" ] || { echo 'soak: no service has such tests'; exit; }; \
	$(GO) test -count 1 -timeout 0 $$packages -v -duration $(DURATION) $(SEED:%=-seed %)
# template:end

# The development cluster. Its context is named in every command, so that no other cluster is ever touched.
CLUSTER ?= quartet
NAMESPACE ?= quartet
# The image of its nodes; empty is kind's own.
KIND_IMAGE ?=
# false leaves Grafana out.
GRAFANA ?= true
# true has charts/platform sign the certificates of pods, for tls.source podCertificate; it needs Kubernetes 1.37.
SIGNER ?= false
# How quartet is installed: three replicas on what the platform has.
VALUES ?= charts/quartet/values-development.yaml
KUBECTL := kubectl --context kind-$(CLUSTER) --namespace $(NAMESPACE)
HELM := helm --kube-context kind-$(CLUSTER) --namespace $(NAMESPACE)
PARTS := server client
TAG ?= dev
WAIT ?= --wait --timeout 5m

.PHONY: image
image: ## Build the images quartet/server and quartet/client (TAG=dev)
	@for part in $(PARTS); do \
	  DOCKER_BUILDKIT=1 BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build --quiet \
	    --target $$part --build-arg VERSION=$(VERSION) --tag quartet/$$part:$(TAG) . >/dev/null || exit; \
	  docker image inspect --format 'quartet/'$$part':$(TAG) {{.Id}} {{.Size}} bytes' quartet/$$part:$(TAG); \
	done

.PHONY: reproducible
reproducible: ## Build each image twice in two checkouts, and compare the digests (PLATFORMS=linux/amd64)
	@tools/reproducible

# What the programs in the images are made of. Releases have the packages of the base image besides.
.PHONY: sbom
sbom: image ## List the modules in the images in bin/server.cdx.json and bin/client.cdx.json, as CycloneDX (TAG=dev)
	@mkdir -p bin/image; for part in $(PARTS); do \
	  container=$$(docker create quartet/$$part:$(TAG)); \
	  docker cp $$container:/$$part bin/image/ >/dev/null; docker rm $$container >/dev/null; \
	  $(MAKE) --no-print-directory sbom-$$part; \
	done

# Of a program that was taken out of its image, in bin/image.
sbom-%:
	@$(TOOL) cyclonedx-gomod bin -json -std -noserial -notimestamp -version $(VERSION) -output ../bin/$*.cdx.json ../bin/image/$*

# The nodes pull what Docker does not have; what it has need not come over the network three times.
.PHONY: cluster
cluster: ## Create the kind cluster, if it is not there (KIND_IMAGE=…)
	@kind get clusters 2>/dev/null | grep -qx $(CLUSTER) || \
	  kind create cluster --name $(CLUSTER) --config kind-config.yaml $(KIND_IMAGE:%=--image %) --wait 3m
	@node=$$(kind get nodes --name $(CLUSTER) | sort | tail -n 1); \
	there=$$(docker exec "$$node" ctr --namespace k8s.io images ls --quiet 2>/dev/null) || there=; \
	images=$$(sed -n '/signer/d; s/^  image: //p' charts/platform/values.yaml); \
	for image in $$images; do \
	  grep -qE "(^|/)$$image$$" <<<"$$there" || ! docker image inspect $$image >/dev/null 2>&1 || \
	    kind load docker-image $$image --name $(CLUSTER) >/dev/null 2>&1 || echo "$$image: the nodes will pull it"; \
	done

# kind loads an image again that the nodes have. So what they have after a load is noted, with the image's identity. Pods
# run on the control plane only where there are no workers.
.PHONY: load
load: ## Give the images to the nodes of the kind cluster that do not have them (TAG=dev)
	@mkdir -p bin; all=$$(kind get nodes --name $(CLUSTER)); nodes=$$(grep -v control-plane <<<"$$all") || nodes=$$all; \
	for part in $(PARTS); do \
	  image=quartet/$$part:$(TAG) note=bin/loaded-$(CLUSTER)-$$part-$(TAG); \
	  have() { \
	    docker image inspect --format '{{.Id}}' $$image; \
	    for node in $$nodes; do docker exec $$node ctr --namespace k8s.io images ls name==docker.io/$$image 2>/dev/null; done; \
	  }; \
	  [ "$$(have)" = "$$(cat $$note 2>/dev/null)" ] || { \
	    output=$$(kind load docker-image $$image --name $(CLUSTER) --nodes $$(paste -sd, - <<<"$$nodes") 2>&1) || { echo "$$output"; exit 1; }; \
	    have >$$note; \
	  }; \
	done

.PHONY: signer
signer:
	@DOCKER_BUILDKIT=1 docker build --quiet --tag quartet/signer:dev tools/signer >/dev/null
	@kind load docker-image quartet/signer:dev --name $(CLUSTER) >/dev/null 2>&1

.PHONY: platform
platform: $(if $(filter true,$(SIGNER)),signer) ## Install charts/platform, or upgrade it (GRAFANA=false, SIGNER=true)
	@$(KUBECTL) create namespace $(NAMESPACE) --dry-run=client --output yaml | $(KUBECTL) apply --filename - >/dev/null
	@$(KUBECTL) label namespace $(NAMESPACE) pod-security.kubernetes.io/enforce=restricted --overwrite >/dev/null
	$(HELM) upgrade --install platform charts/platform --set grafana.enabled=$(GRAFANA),signer.enabled=$(SIGNER) --wait --timeout 5m >/dev/null

# The images' tags stay the same, so their identities tell whether there are new pods to start.
.PHONY: release
release: ## Install charts/quartet with the images, or upgrade it (VALUES=…, WAIT= to return before the pods are ready)
	$(HELM) upgrade --install quartet charts/quartet --values $(VALUES) $(WAIT) \
	  $(foreach part,$(PARTS),--set-string $(part).image.tag=$(TAG),$(part).podAnnotations.image=$$(docker image inspect --format '{{.Id}}' quartet/$(part):$(TAG))) >/dev/null

.PHONY: up
up: cluster image load platform release ## Have server, client and platform running on a kind cluster (VALUES=…, GRAFANA=false)
	@$(HELM) get notes platform
	@$(HELM) get notes quartet

# What `make dev` forwards: a service, and a port, or one of this machine and one of the service.
FORWARD ?= service/quartet-server:50051 service/quartet-server:9464 service/quartet-client:9465 deployment/quartet-client:9466 \
  service/platform-prometheus:9090 service/platform-jaeger:16686 $(if $(filter-out false,$(GRAFANA)),service/platform-grafana:3000)

# Programs that are the same but for their version would start all pods anew.
.PHONY: dev
dev: ## The same, with logs and forwarded ports, and again after every edit, until Ctrl-C (VALUES=…, FORWARD=…)
	@$(GO) -C tools build -o ../bin/dev ./dev
	@exec bin/dev -context kind-$(CLUSTER) -namespace $(NAMESPACE) -selector app.kubernetes.io/instance=quartet \
	  $(PARTS:%=-rollout deployment/quartet-%) -make 'make VERSION=dev WAIT=' $(FORWARD)

.PHONY: down
down: ## Delete the kind cluster and everything in it
	kind delete cluster --name $(CLUSTER)

.PHONY: charts
charts: ## Check the charts: helm lint, a matrix of values, and what wrong ones are told (lint does it too)
	@GO='$(GO)' charts/check

.PHONY: doctor
doctor: ## Say which tools are missing or too old
	@bad=0; \
	need() { \
	  have=$$($$3 2>/dev/null | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -1) || true; \
	  if [ -z "$$have" ]; then state="missing, at least $$2 is needed"; bad=1; \
	  elif [ "$$(printf '%s\n' $$2 $$have | sort -V | head -1)" != $$2 ]; then state="$$have is too old, at least $$2 is needed"; bad=1; \
	  else state="$$have"; fi; \
	  printf '  %-8s %-40s for %s\n' "$$1" "$$state" "$$4"; \
	}; \
	need go 1.26 '$(GO) version' 'everything'; \
	need git 2.28 'git --version' 'everything'; \
	need docker 20.10 'docker version --format {{.Server.Version}}' 'images, kind (the daemon has to run)'; \
	need buildx 0.10 'docker buildx version' 'images'; \
	need kind 0.24 'kind version' 'make up, make dev'; \
	need kubectl 1.30 'kubectl version --client' 'make up, make dev'; \
	need helm 3.18 'helm version --short' 'make up, make dev, make charts'; \
	need skaffold 2.24 'skaffold version' 'skaffold dev'; \
	command -v promtool >/dev/null || echo '  note: without promtool, which comes with Prometheus, the alerts are not tested'; \
	command -v node >/dev/null || echo '  note: without Node.js, the diagrams in documents are not checked'; \
	command -v npm >/dev/null || echo '  note: without node 20 and npm, make e2e fails where it calls as browsers do'; \
	watches=$$(cat /proc/sys/fs/inotify/max_user_instances 2>/dev/null || echo 512); \
	[ $$watches -ge 512 ] || echo "  note: pods of kind may fail to start with too few inotify instances ($$watches); as root: sysctl -w fs.inotify.max_user_instances=512"; \
	exit $$bad

.PHONY: browser
browser: build ## Try the client's console in Chromium (CHROMIUM=…, SCREENSHOTS=folder); it is part of e2e
	@test/browser/run

.PHONY: e2e
e2e: ## Prove it on a kind cluster of its own, deleted afterwards (KEEP=1, RUN=embedded, KIND_IMAGE=…)
	@GO='$(GO)' KIND_IMAGE='$(KIND_IMAGE)' test/e2e/run

# template:only object
.PHONY: e2e-disruption
e2e-disruption: ## The same for what takes long: traffic while pods and the store are killed, and in little memory (RUN=Memory, KEEP=1, …)
	@GO='$(GO)' KIND_IMAGE='$(KIND_IMAGE)' TESTS='^Test$(or $(RUN),(Disruption|Memory))$$' test/e2e/run
# template:end

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
