# Needs Go, git and make. demo, test and bench install what else is missing
# (.ci/setup), or say what to install.

GO       ?= go
RACE     ?= -race
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
CODEGEN  := github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2
RUNTIME  := github.com/oapi-codegen/runtime@v1.8.0
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)'

.DEFAULT_GOAL := build

## build: the binary, static, in bin/rowcall
.PHONY: build
build:
	$(BUILD) -o bin/rowcall ./cmd/rowcall

## demo: the main job in one command; ARGS='--deliveries 10' ends by itself
.PHONY: demo
demo:
	@.ci/setup demo
	@$(MAKE) --no-print-directory -s build
	@exec bin/rowcall demo $(ARGS)

## test: formatting, vet and every test, with the race detector but where latency or memory is measured
.PHONY: test
test:
	@RACE='$(RACE)' .ci/setup test
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) test $(RACE) -vet=off -timeout 9m -skip '^Test(Latency|Memory)' ./cmd/rowcall ./dispatch ./... # what takes longest first
	$(GO) test -p 1 -vet=off -timeout 9m -run '^Test(Latency|Memory)' ./cmd/rowcall ./dispatch ./store # nothing runs beside what measures, nor slows it down

## lint: golangci-lint, with the import rules; the first run builds it, which takes minutes
.PHONY: lint
lint: client
	$(GO) run $(LINT) run ./...

## client: has others' generator make a client of api/openapi.json, and compiles it: what reads the document elsewhere
.PHONY: client
client:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && mkdir "$$dir/client" && \
	$(GO) run $(CODEGEN) -generate types,client -package client -o "$$dir/client/client.go" api/openapi.json && \
	cd "$$dir" && $(GO) mod init contract >/dev/null 2>&1 && $(GO) get $(RUNTIME) >/dev/null 2>&1 && $(GO) build ./client

## fmt: formats the code as lint wants it
.PHONY: fmt
fmt:
	$(GO) run $(LINT) fmt ./...

## bench: rowcall side by side with a bare POST loop and pg_recvlogical
.PHONY: bench
bench:
	@.ci/setup demo
	$(GO) run ./cmd/rowcall-bench $(ARGS)

## image: a container image, rowcall:$(VERSION); needs docker or podman (DOCKER=podman)
DOCKER ?= docker
.PHONY: image
image:
	$(DOCKER) build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) --tag rowcall:$(VERSION) .

## clean: removes what the targets above made
.PHONY: clean
clean:
	rm -rf bin .tools

## help: this list
.PHONY: help
help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)
