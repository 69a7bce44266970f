# Everyday habits. Every target runs from a clean checkout on a machine with Go; what else one needs, it says.

SHARED ?= ../shared
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT = mvdan.cc/gofumpt@v0.12.0

.PHONY: run build test race lint fmt bench fuzz conformance matrix

run: ## everything in one process, data in ./granary-data
	go run ./cmd/granary server

build: ## one static binary, bin/granary, with the names that Pulp's commands have
	CGO_ENABLED=0 go build -trimpath -o bin/granary ./cmd/granary
	cd bin && for name in manager api content worker; do ln -sf granary pulpcore-$$name; done

test: ## what the README says passes; with GRANARY_TEST_POSTGRES also on PostgreSQL
	go test ./...

race:
	go test -race ./...

lint:
	go vet ./...
	go run $(STATICCHECK) ./...
	@files="$$(go run $(GOFUMPT) -l .)"; if [ -n "$$files" ]; then echo "not formatted:"; echo "$$files"; exit 1; fi

fmt:
	go run $(GOFUMPT) -w .

bench: ## the budgets of docs/architecture.md, as ratios
	go test -run '^$$' -bench . ./...

fuzz: ## every parser for FUZZTIME each
	test/fuzz.sh $${FUZZTIME:-30s}

conformance: build ## the reference's own tests, where the suites are at hand
	test/conformance/run.sh "$(SHARED)" file

matrix: lint test race conformance
