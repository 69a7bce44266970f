# Everyday habits. Every target runs from a clean checkout on a machine with Go; what else one needs, it says.

SHARED ?= ../shared
SUITES ?= file core certguard
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
	test/conformance/run.sh "$(SHARED)" file certguard

matrix: ## all checks there are, one after the other: hours on a small machine; PostgreSQL's where GRANARY_TEST_POSTGRES names a server
	$(MAKE) lint
	$(MAKE) race
	$(MAKE) build
	@echo "== SQLite"; test/conformance/run.sh "$(SHARED)" $(SUITES)
	@echo "== SQLite, domains"; DOMAINS=1 test/conformance/run.sh "$(SHARED)" $(SUITES)
	@if [ -z "$$GRANARY_TEST_POSTGRES" ]; then echo "== PostgreSQL: GRANARY_TEST_POSTGRES names no server, not run"; exit $${CONFORMANCE_REQUIRED:-0}; fi; \
	 echo "== PostgreSQL" && DATABASE="$$GRANARY_TEST_POSTGRES" test/conformance/run.sh "$(SHARED)" $(SUITES) && \
	 echo "== PostgreSQL, domains" && DATABASE="$$GRANARY_TEST_POSTGRES" DOMAINS=1 test/conformance/run.sh "$(SHARED)" $(SUITES)
