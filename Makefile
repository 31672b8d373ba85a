# What a person types; everything else is in the tools these call.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MINUTES ?= 2
SYSTEM := tmux=tmux venv=python3-venv
TEST_SYSTEM := $(SYSTEM) sshd=openssh-server ssh=openssh-client fish=fish zsh=zsh tcsh=tcsh busybox=busybox ip=iproute2 nft=nftables dockerd=docker.io

.PHONY: help demo test test-all soak check bench clean
help:
	@echo 'make demo      set everything up and run a scenario on a host that is played by an embedded SSH server'
	@echo 'make test      set up what the tests need and run them'
	@echo 'make test-all  the slow ones too'
	@echo 'make soak      scenarios with random faults over three hosts in namespaces (root): MINUTES=2 SEED=1'
	@echo 'make check     ruff, mypy, import rules'
	@echo 'make bench     all benchmarks; writes benchmarks/results/'

$(VENV)/.installed: pyproject.toml
	@PYTHON=$(PYTHON) tools/need venv=python3-venv
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@PYTHON=$(PYTHON) tools/need $(SYSTEM)
	$(BIN)/se-remote demo

test: $(VENV)/.installed-dev
	@PYTHON=$(PYTHON) tools/need $(TEST_SYSTEM)
	$(BIN)/python -m pytest -m 'not slow' $(PYTEST_ARGS)

test-all: $(VENV)/.installed-dev
	@PYTHON=$(PYTHON) tools/need $(TEST_SYSTEM)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

soak: $(VENV)/.installed-dev
	@PYTHON=$(PYTHON) tools/need $(TEST_SYSTEM)
	$(BIN)/python tests/soak/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(SOAK_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --diff . || { echo 'cure: $(BIN)/ruff format .' >&2; exit 1; }
	$(BIN)/mypy
	$(BIN)/mypy --config-file tools/mypy-tests.ini tests benchmarks tools
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	@PYTHON=$(PYTHON) tools/need $(TEST_SYSTEM)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
