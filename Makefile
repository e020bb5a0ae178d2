# Homeroom: one entry for everything. `make` alone prints this help.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := libs/common libs/sandbox services/sync-scheduler services/provider-gateway services/roster-store services/sso deploy/local
READY := $(VENV)/ready
ARGS ?=

##@ Use
.PHONY: demo up
demo: $(READY) ## do the main job once, with nothing installed (ARGS=--json for one JSON object)
	@$(BIN)/homeroom demo $(ARGS)

up: $(READY) ## keep Homeroom running on this machine (Ctrl-C stops it)
	@$(BIN)/homeroom up $(ARGS)

##@ Develop
.PHONY: test test-all test-kafka lint types docs bench
test: lint types $(READY) ## everything that must be green: lint, types, all tests
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

test-all: lint types $(READY) ## and what takes minutes to start: Keycloak as a portal (Java and Maven)
	@HOMEROOM_TEST_KEYCLOAK=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

test-kafka: $(READY) ## the bus and its users on a real Apache Kafka; fails if there is none
	@HOMEROOM_REQUIRE_KAFKA=1 $(BIN)/python -m pytest -m kafka $(ARGS)

lint: $(READY) ## ruff (rules and format) and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache

types: $(READY) ## mypy --strict
	@$(BIN)/mypy

docs: $(READY) ## write the generated documents (OpenAPI, message schemas, error codes) again
	@$(BIN)/python -m homeroom_local.documents

bench: $(READY) ## measure a 50,000-student district through everything (ARGS="--students 200000")
	@$(BIN)/python -m bench.run $(ARGS)

##@ Maintain
.PHONY: lock clean help
lock: ## resolve the dependencies again (needs uv)
	uv lock --quiet
	uv export --quiet --all-groups --no-emit-workspace --no-header --format requirements-txt --output-file requirements.lock
	uv export --quiet --no-dev --no-emit-workspace --no-header --format requirements-txt --package homeroom-sync-scheduler --package homeroom-provider-gateway --package homeroom-roster-store --package homeroom-sso --output-file deploy/requirements.lock
	uv export --quiet --only-group build --no-header --format requirements-txt --output-file deploy/build.lock
	rm -f uv.lock

clean: ## remove what was built here; data in .homeroom stays
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock $(addsuffix /pyproject.toml,$(PACKAGES))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Homeroom needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Homeroom into $(VENV) (once) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(addprefix -e ,$(PACKAGES))
	@touch $@
