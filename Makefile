# Everything here works from a fresh clone with only Python (3.11 to 3.13) and make.
#   make PYTHON=/path/to/python3.12 demo     another Python
#   make test ARGS="-k price -x"             arguments for pytest; bench and demo take ARGS too

SHELL := /bin/sh
PYTHON ?=
ARGS ?=
WATCH ?=
export PYTHON
# The same text in every locale.
export PYTHONUTF8 := 1

BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-bench compiled demo test soak fuzz lint types bench kafka-up kafka-down flink-up flink-run flink-watch flink-down lock docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## make .venv with .venv/bin/llm-finops; nothing to do when it is current
	@sh deploy/local/setup.sh runtime

setup-dev:
	@sh deploy/local/setup.sh dev

setup-bench:
	@sh deploy/local/setup.sh bench

demo: setup ## generate a day of traffic, price it, prove it, show it
	@$(BIN)/llm-finops demo --folder demo $(ARGS)

test: setup-dev ## run every test
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

soak: setup-dev setup-bench ## the long runs, many hours: kills, full disks, a store that is away, half an hour at a steady rate
	@$(BIN)/python -m pytest -m soak tests/soak -s
	@.venv-bench/bin/python -m benchmarks --only endurance
	@$(BIN)/python -m benchmarks --only scaling --calls 7

fuzz: setup-dev ## 100,000 records made wrong, the same ones each time, and 20,000 with secrets in them; ten minutes
	@$(BIN)/python -m pytest -m soak tests/decode/test_mutations.py tests/decode/test_secrets.py -s

lint: setup-dev ## style and common mistakes
	@$(BIN)/ruff check .

types: setup-dev ## strict types
	@$(BIN)/mypy

compiled: build/compiled/done ## every package in build/compiled, its decoder compiled; a minute, needs a C compiler

build/compiled/done: setup.py pyproject.toml $(shell find schemas transforms -name '*.py') | setup-bench
	@rm -rf build && mkdir build
	@LLM_FINOPS_COMPILE=1 .venv-bench/bin/python setup.py build --build-lib build/compiled >build/log 2>&1 || { tail build/log; exit 1; }
	@touch $@

bench: setup-bench ## measure, one line per figure
	@$(MAKE) --no-print-directory compiled || echo "# going on without the compiled decoder" >&2
	@LITELLM_LOCAL_MODEL_COST_MAP=True .venv-bench/bin/python -m benchmarks $(ARGS)

kafka-up: setup ## start a Kafka broker on localhost:9092 that goes on; needs Java 17 and Maven, no Docker
	@$(BIN)/python deploy/local/kafka.py up $(ARGS)

kafka-down: setup ## end that broker; its topics are kept
	@$(BIN)/python deploy/local/kafka.py down $(ARGS)

flink-up: setup ## start a Flink cluster with Beam's job server; needs Java 17 and Maven, no Docker
	@$(BIN)/python -m deploy.flink up $(ARGS)

flink-run: setup ## run the job on it: ARGS="--from kafka://localhost:9092/llm-calls --to http://localhost:8123"
	@$(BIN)/python -m deploy.flink run $(ARGS)

flink-watch: setup ## run it likewise, and submit it anew when it stands still: docs/flink.md
	@$(BIN)/python -m deploy.flink.watchdog $(WATCH) -- $(ARGS)

flink-down: setup ## end that cluster; checkpoints are kept
	@$(BIN)/python -m deploy.flink down $(ARGS)

# One resolution for Python 3.11 to 3.13 and every platform; the others follow the versions of requirements.lock.
COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	--extra chdb --extra fast --extra serve --extra kafka --extra gcp --extra s3 --extra gcs --group setup pyproject.toml

lock: setup-dev ## pin the versions anew (ARGS=--upgrade for newer ones)
	@$(COMPILE) $(ARGS) --output-file requirements.lock
	@$(COMPILE) $(ARGS) --constraint requirements.lock --group dev --output-file requirements-dev.lock
	@$(COMPILE) $(ARGS) --constraint requirements.lock --group bench --output-file requirements-bench.lock

docs: setup ## write what is made from the code: pages, the list of exported columns
	@$(BIN)/python -m pipelines.settings docs/configuration.md
	@$(BIN)/python -m schemas.document docs/tables.md
	@$(BIN)/python -m transforms.decode docs/formats.md
	@$(BIN)/python -m tests.sinks.contract
	@$(BIN)/python -m deploy.grafana.overview deploy/grafana/dashboards/overview.json
	@$(BIN)/python -m deploy.grafana.money deploy/grafana/dashboards/money.json
	@$(BIN)/python -m deploy.dataflow.template deploy/dataflow/metadata.json docs/dataflow.md

clean: ## remove the environments and all that was made
	@[ ! -x $(BIN)/python ] || $(BIN)/python deploy/local/kafka.py down >/dev/null
	@[ ! -x $(BIN)/python ] || $(BIN)/python -m deploy.flink down >/dev/null
	@rm -rf .venv .venv-bench build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .services
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
