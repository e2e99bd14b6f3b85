# GNU make. `make` alone lists the targets.
VENV   ?= .venv
PYTHON ?= $(shell for p in python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done)
STUDY  ?=
JOBS   ?= 2
FER6   ?=
ARGS   ?=

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
BIN         := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)

# Stamps are named after the content they were made from, not after its time: a fresh clone may share an environment.
checksum    = $(shell $(or $(shell command -v sha256sum),shasum -a 256) $(1) | cut -c1-12)
LOCKED     := $(VENV)/.installed-$(call checksum,requirements.txt)
EDITABLE   := $(VENV)/.editable-$(call checksum,pyproject.toml)
ifeq ($(filter $(CURDIR)/%,$(abspath $(VENV))),)  # an environment from outside keeps the clone it was first installed for
EDITABLE   := $(or $(firstword $(wildcard $(VENV)/.editable-*)),$(EDITABLE))
endif

STUDIES    := $(filter-out datasets,$(notdir $(patsubst %/,%,$(wildcard nbs/studies/*/))))
ifneq ($(filter-out $(STUDIES),$(STUDY)),)
$(error STUDY=$(STUDY) is unknown; the studies are: $(STUDIES))
endif
APART      := $(patsubst %,repro-%,$(filter-out comparison,$(STUDIES)))

.DEFAULT_GOAL := help
.PHONY: help setup data repro test lab docs bench sample lock readme export clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile
	@echo 'Variables: VENV=$(VENV), PYTHON=a Python 3.11, JOBS=$(JOBS), STUDY=one of: $(STUDIES)'

# Not compiled ahead: Python compiles what it imports, a small part of what there is.
$(LOCKED):
	@[ -x $(BIN)/python ] || [ -n "$(PYTHON)" ] || { echo 'Python 3.11 is needed; where it has another name: make setup PYTHON=NAME' >&2; exit 1; }
	[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-compile -r requirements.txt
	@rm -f $(VENV)/.installed-* && touch $@

$(EDITABLE): | $(LOCKED)
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.editable-* && touch $@

setup: $(LOCKED) $(EDITABLE) ## install the locked requirements into VENV, once

data: setup
	@dvc status --quiet data.dvc || dvc pull data.dvc

repro: data ## rebuild all results, JOBS studies at a time, or those of STUDY, and print them
ifeq ($(STUDY),)
	@$(MAKE) --no-print-directory --jobs=$(JOBS) all-stages
else
	@stages=$$(dvc stage list --name-only | grep -E '^$(STUDY)(_|$$)') || { echo 'dvc.yaml has no stage of $(STUDY)' >&2; exit 2; }; \
	dvc repro $$stages
endif
	@python -m fer_research.pipeline.cli results

# What `dvc repro` alone does one stage after the other. No two studies write to one place; what they share is made before.
.PHONY: all-stages shared-stages $(APART)
all-stages: $(APART)
	dvc repro

$(APART): repro-%: shared-stages
	@dvc --wait-for-lock repro --single-item --glob '$*_*'

shared-stages:
	dvc repro strip prepare

test: data ## run the tests that are not slow (ARGS goes to pytest: ARGS="-k packaging", ARGS="-m slow")
	python -m pytest $(ARGS)

lab: setup ## open the notebooks in JupyterLab, on this machine only (ARGS goes to it: ARGS=--no-browser)
	JUPYTER_CONFIG_DIR="$(CURDIR)/.jupyter" PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" jupyter lab $(ARGS)

docs: data ## build the documentation into site/, from the notebooks and the reports of `make repro`
	@python -m docs.generator

bench: data ## measure the sources' ways against ours (FER6=path of the real FER-6 archive), and this build against an earlier one
	python -m benchmarks $(if $(FER6),--fer6 "$(FER6)")
	python -m benchmarks.build

sample: setup ## draw the embedded sample anew and put it into its remote, the folder sample/
	python -m fer_research.pipeline.cli data sample
	dvc add --quiet data && rm -rf sample/files && cp data.dvc .data.dvc
	sed 's/push: false/push: true/' .data.dvc > data.dvc && dvc push data.dvc; mv .data.dvc data.dvc

lock: setup ## resolve pyproject.toml into requirements.txt anew (ARGS goes to uv: ARGS=--upgrade)
	uv pip compile pyproject.toml --extra cluster --extra dev --universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url -o requirements.txt $(ARGS)

readme: setup ## make README.md from nbs/index.ipynb
	python -m docs.generator.readme

export: setup ## notebooks to modules, params.yaml into the study notebooks, and clean the notebooks
	nbdev_export && python -m fer_research.pipeline.cli parameters && nbdev_clean

clean: ## remove outputs and caches; keeps data/, results/, VENV, DVC's cache and executed pages
	rm -rf outputs scratch site .pytest_cache .ruff_cache
	find . \( -path ./.git -o -path ./.dvc -o -path ./data -o -path './.venv*' \) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
