# `make` lists the targets. Everything runs from .venv, which `make env` builds from the hashed locks.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
MANAGE := $(PY) manage.py
ARGS ?=
NGINX_LUA := nginx libnginx-mod-http-lua lua-nginx-redis lua-resty-core lua-resty-lrucache

.PHONY: help env env-dev demo run servers test bench chaos soak stripe-figures proofs check fix migrate seed shell schema lock screenshots

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

env: ## make .venv and install what the demo needs
	@deploy/local/env.sh local

env-dev: ## make .venv and install what tests and checks need
	@deploy/local/env.sh dev

demo: env ## everything on this machine with seeded customers (RESET=1 starts over; PORT_WEB, PORT_GATEWAY, PORT_UPSTREAM, PORT_STRIPE)
	@$(PY) -m deploy.local demo $(if $(RESET),--reset)

run: env ## everything for development: DEBUG, reload on change, logs in the terminal
	@$(PY) -m deploy.local run

servers: env ## only PostgreSQL and Valkey
	@$(PY) -m deploy.local servers

test: env-dev ## all tests with branch coverage (ARGS="tests/keys -k revoked")
	@deploy/local/chromium.sh
	@deploy/local/outer_gateways.sh
	@deploy/local/outer_gateways.sh $(NGINX_LUA)
	@$(PY) -m pytest -n 2 --cov --cov-branch --cov-report=term $(ARGS)

bench: env-dev ## measure the doors: one figure a line
	@deploy/local/outer_gateways.sh $(NGINX_LUA)
	@$(PY) -m deploy.local with-servers $(PY) -m benchmarks.bench $(ARGS)
	@$(if $(findstring --part,$(ARGS)),,$(PY) -m deploy.local with-servers $(PY) -m benchmarks.statements)

chaos: env-dev ## kill every process in turn under load and count what was lost
	@$(PY) -m benchmarks.chaos $(ARGS)

soak: env-dev ## an hour of mixed load: memory, descriptors and Redis keys stay as they were, no call is lost (ARGS="--minutes 10")
	@$(PY) -m benchmarks.soak $(ARGS)

stripe-figures: env-dev ## prove payments at the stand-in: one line of figures a proof (ARGS="R10 R13=500", ARGS=--quick)
	@deploy/local/chromium.sh
	@$(PY) -m tests.billing.stripe.figures $(ARGS)

proofs: env-dev ## prove budgets, cut streams, attacks and safety of the gateway: one line of figures each (ARGS="R23 budgets", ARGS=--quick)
	@$(PY) -m tests.proofs $(ARGS)

check: env-dev ## formatting, lint, types, import order, migrations, templates, deployment files
	@deploy/local/check.sh

fix: env-dev ## format and mend what can be mended
	@.venv/bin/ruff check --fix --quiet . || true
	@.venv/bin/ruff format .

migrate: env ## bring the database of the running servers up to date
	@$(MANAGE) migrate

seed: env ## fill the database of the running servers with the demo's customers
	@$(MANAGE) seed $(ARGS)

shell: env ## a Python shell with the models loaded
	@$(MANAGE) shell

schema: env ## write deploy/schema.sql.gz from the migrations
	@$(PY) -m deploy.local schema

screenshots: env-dev ## pictures of the running demo's pages in var/screenshots
	@$(PY) -m deploy.local.screenshots $(ARGS)

UV := UV_PYTHON_DOWNLOADS=never .venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade) pyproject.toml

lock: env-dev ## write the locks from pyproject.toml (UPGRADE=1 takes newer versions)
	@$(PY) -m pip install --quiet --disable-pip-version-check uv
	$(UV) -o requirements.txt
	$(UV) --group local --constraint requirements.txt -o requirements-local.txt
	$(UV) --group local --group dev --constraint requirements-local.txt -o requirements-dev.txt
