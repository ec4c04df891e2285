# The two commands of this project are `make run` and `make test`; both install what is missing first.
# Node comes from the npm registry at the version package.json pins, so an older system Node is enough to begin with.
SHELL := /bin/sh
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

.PHONY: run demo test test-docker test-kubernetes test-senders bench faults reliability soak crash-model fuzz build install redis prometheus servers lint format docs clean
.DEFAULT_GOAL := help

help: ## Show all targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

run: install redis ## Start the whole pipeline on this machine
	@nrdot up $(ARGS)

demo: install redis ## A cardinality storm, an overload and an outage in two minutes, with a verdict
	@nrdot demo $(ARGS)

test: install redis prometheus servers ## Check and test everything
	@npm run --silent lint
	@npm run --silent typecheck
	@npm run --silent test

test-docker: install ## Build and test the image and the compose stack; needs a running Docker engine
	@docker info >/dev/null 2>&1 || { echo 'No Docker engine is running here: start one first.' >&2; exit 1; }
	@NRDOT_TEST_GUIDE=1 npm run --silent test -- --project docker

test-kubernetes: install ## Install and test the chart on a one-node cluster (kind, or built from parts once: about 10 minutes)
	@node tests/kubernetes/run.ts $(ARGS)

test-senders: install redis ## Install the OpenTelemetry SDKs of Python, Go and Java and the Collector into ~/.cache, if available, and test with them
	@node tests/senders/install.ts
	@npm run --silent test -- tests/senders tests/e2e/collector

build: install ## Type check and bundle into dist/
	@npm run --silent typecheck
	@npm run --silent build

install: node_modules/.installed ## Install the pinned Node and the packages

node_modules/.installed: package.json package-lock.json $(wildcard */*/package.json) cli/package.json
	@infra/install/packages.sh
	@touch $@

redis: ## Install redis-server if it is missing
	@infra/install/redis.sh

prometheus: ## Install Prometheus for the tests of dashboards and alerts, if available
	@infra/install/prometheus.sh

servers: ## Install nginx, tinyproxy and squid for the tests behind them, if available
	@infra/install/servers.sh

bench: install redis build ## Measure, compared with peers, and write BENCHMARKS.md (about 45 minutes; ARGS=--dry-run, --headline, --resume, --help)
	@node tests/bench/run.ts --page $(ARGS)

bench-parts: install ## Measure single parts (ONLY=walk for one)
	@node tests/bench/parts.ts --only '$(ONLY)'

bench-compare: install ## The same compared with another commit, as ratios: BASE=main~5
	@node tests/bench/parts.ts --base '$(BASE)' --only '$(ONLY)'

lint: install ## Check style
	@npm run --silent lint

format: install ## Format and fix what can be fixed
	@npm run --silent format

docs: install ## Generate the reference pages
	@npm run --silent docs

faults: install redis ## Fault runs with an oracle: RUNS=50 SEED=… FROM=0 LANES=2 FORM=services|one|sentinel|cluster
	@node tests/faults/campaign.ts --runs $(or $(RUNS),50) --from $(or $(FROM),0) --lanes $(or $(LANES),2) \
		$(if $(SEED),--seed $(SEED)) $(if $(FORM),--form $(FORM)) $(if $(KIND),--kind "$(KIND)")

reliability: install redis ## The long campaign, and docs/reliability.md from it: RUNS=1100 SEED=… LANES=3; CONTINUE=1 continues
	@node tests/faults/campaign.ts --runs $(or $(RUNS),1100) --seed $(or $(SEED),20261124) --lanes $(or $(LANES),3) \
		--out tests/artifacts/reliability $(if $(CONTINUE),--continue); node tests/faults/report.ts tests/artifacts/reliability

soak: install redis ## Sustained load: 10,000 spans/s and a fault every 30 s for an hour; MINUTES=3 for less
	@node tests/faults/soak-run.ts --minutes $(or $(MINUTES),60) --rate $(or $(RATE),10000) \
		$(if $(SEED),--seed $(SEED)) $(if $(FORM),--form $(FORM))

crash-model: install ## Schedules in which any process may die between any two steps: SCHEDULES=100000 SEED=…
	@NRDOT_SCHEDULES=$(or $(SCHEDULES),100000) NRDOT_SEED=$(or $(SEED),$$(node -p 'Math.floor(Math.random() * 2 ** 30)')) npx vitest run --project unit tests/crash/crash- tests/crash/merging.test

fuzz: install ## Mutated input for everything that reads external input: SECONDS=60 SEED=…
	@node tests/fuzz/main.ts $(or $(SECONDS),60) $(SEED)

clean: ## Remove build results and installed packages
	rm -rf node_modules */*/node_modules dist .turbo
