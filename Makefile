# `make demo` and `make test` do all their own set-up on a bare Debian machine (python3, pip, make, git; apt as root).
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS := 20

.PHONY: help setup demo test test-here check format generate generate-check lock bench fuzz tcb clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(VENV)/.installed ## Make the virtual environment from the hashed lock.

$(VENV)/.installed: requirements/dev.txt pyproject.toml simulator/pyproject.toml tools/setup.sh
	@tools/setup.sh "$(PYTHON)" "$(VENV)"

demo: setup ## Run the main job end to end, refusals included.
	@tools/system-packages.sh curl openssl
	@tools/tpm-library.sh "$(VENV)" || echo "== no TSS binding here: the demo leaves the TPM out, and says so"
	@$(BIN)/python examples/demo/demo.py

test: setup ## Run every test, then the tests that need no process on each further Python of the machine.
	@tools/system-packages.sh curl openssl faketime
	@command -v softhsm2-util >/dev/null || tools/apt-install.sh softhsm2 || echo "== no SoftHSM: its tests skip, and say so"
	@{ command -v go && ls -d /usr/share/gocode/src/golang.org/x/mod; } >/dev/null 2>&1 || tools/apt-install.sh golang-go golang-golang-x-mod-dev || echo "== no Go: the tests with its checker of logs skip, and say so"
	@tools/tpm-library.sh "$(VENV)" || echo "== no TSS binding here: the tests on swtpm skip, and say so"
	@tools/test.sh "$(VENV)"

test-here: setup ## Run every test on this Python only.
	@$(BIN)/python -m pytest -n 2 --dist worksteal

check: setup ## Format, lint, types, layers, generated code, documents.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src tests tools examples benchmarks fuzz
	$(BIN)/lint-imports
	$(BIN)/python tools/generate.py --check
	$(BIN)/python tools/check_docs.py

format: setup ## Format and mend what can be mended.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: setup ## Generate the protobuf code that is checked in.
	$(BIN)/python tools/generate.py

lock: setup ## Renew the hashed lock files from pyproject.toml.
	tools/lock.sh "$(BIN)/uv"

bench: setup ## Measure the worst inputs, one issuance beside bare cryptography, a large ledger; exits 1 above the stated bounds.
	$(BIN)/python benchmarks/worst_inputs.py
	$(BIN)/python benchmarks/issuance.py
	$(BIN)/python benchmarks/ledger.py

fuzz: setup ## Run each fuzz harness for so many seconds: make fuzz SECONDS=600.
	$(BIN)/python fuzz/run.py --seconds $(SECONDS)

tcb: setup ## Count the trusted code, and list what stands beside it in the processes.
	$(BIN)/python tools/tcb.py

clean: ## Remove what the other targets made.
	rm -rf .venv .venv-* .demo .fuzz .mypy_cache .ruff_cache .hypothesis build dist
