# Greenroom: `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
RUN := .venv/bin/
# A file's tests stay together, as they share servers; the longest files come first, see tests/conftest.py.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help up test quick check lint format bench soak lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

.venv/.installed: requirements.lock pyproject.toml deployments/setup.sh
	@deployments/setup.sh

up: .venv/.installed ## set everything up and run the whole stack here; Ctrl-C stops it
	@deployments/setup.sh browser
	@exec $(RUN)greenroom up

test: .venv/.installed ## lint, types, layers, then every test on real parts
	@deployments/setup.sh node
	@deployments/setup.sh browser needed
	@$(MAKE) --no-print-directory lint
	@$(RUN)pytest -m "soak or not soak" $(TWO)

quick: .venv/.installed ## lint, types, layers, and every test that needs no server but PostgreSQL: two minutes and a half
	@$(MAKE) --no-print-directory lint
	@$(RUN)pytest -m "not servers and not soak" $(TWO)

check: .venv/.installed ## print what is missing on this machine and how to install it
	@$(RUN)greenroom check

lint: .venv/.installed ## ruff, mypy and the import layers
	@$(RUN)ruff check .
	@$(RUN)ruff format --check --quiet .
	@$(RUN)mypy
	@$(RUN)lint-imports --no-cache > .lint-imports.log || { cat .lint-imports.log; exit 1; }
	@grep -E '^Contracts:' .lint-imports.log

format: .venv/.installed ## format the code
	@$(RUN)ruff check --fix .
	@$(RUN)ruff format .

bench: .venv/.installed ## run the benchmarks; docs/benchmarks.md has the results
	@deployments/setup.sh node
	@$(RUN)python -m bench.live
	@$(RUN)python -m bench.sweep
	@$(RUN)python -m bench.jobs
	@$(RUN)python -m bench.runs
	@$(RUN)python -m bench.mail
	@$(RUN)python -m bench.report_engine
	@$(RUN)python -m bench.reports

soak: .venv/.installed ## the fault tests, ten times as long
	@SOAK=10 $(RUN)pytest -m soak

lock: .venv/.installed ## pin the dependencies of pyproject.toml, with hashes and without index addresses
	@$(RUN)uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-header --output-file requirements.lock

clean: ## remove everything that was installed or created here, state included
	rm -rf .venv var build *.egg-info tests/js/node_modules .*_cache .hypothesis .lint-imports.log
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
