# `make demo` and `make test` need nothing but Python 3.11+ and make; the other targets build on the same .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: install install-dev demo test lint bench theory reproduce reproduce-x9 x1 x2 x3 x4 x5 x6 x7 x8 x10 x11 intervals audit-auc profile label-blocks scale scale-import memory faults fuzz fuzz-import lora-demo docs clean

install: $(VENV)/installed

install-dev: $(VENV)/installed-dev

demo: install
	$(BIN)/thumbs demo

test: lint
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# docs/configuration.md, docs/config.schema.json and docs/importers.md, from the code as it is;
# docs/reproduction.md, from the records of the experiments.
docs: install
	$(BIN)/python docs/write_configuration.py
	$(BIN)/python docs/write_importers.py
	$(BIN)/python -m experiments.reproduction

# Seconds and memory beside two versions of TRL, each in an environment of its own; writes
# benchmarks/results/. Takes hours on two cores and needs a quiet machine; goes on where it stopped.
BENCH ?=
bench: install $(VENV)-trl/installed $(VENV)-trl024/installed
	$(BIN)/python -m benchmarks.bench --trl-python $(VENV)-trl/bin/python --trl024-python $(VENV)-trl024/bin/python $(BENCH)

# The labels of every batch on 2,000 pairs, here and in TRL; writes benchmarks/results/.
label-blocks: install $(VENV)-trl/installed
	$(BIN)/python -m benchmarks.label_blocks --trl-python $(VENV)-trl/bin/python

# From 1,000 to 1,000,000 rows, up to the first step; writes benchmarks/results/.
scale: install
	$(BIN)/python -m benchmarks.scale

# Logs of 1,000,000 votes and of 5 GB, imported and checked; writes benchmarks/results/.
scale-import: install
	$(BIN)/python -m benchmarks.scale_import

# Peak memory as thumbs plan foretells it, beside that of the run; writes benchmarks/results/.
memory: install
	$(BIN)/python -m benchmarks.memory

# The phases of a run and the operations of its steps; writes benchmarks/results/.
profile: install
	$(BIN)/python -m benchmarks.where_time_goes

# A run killed at 24 points ends in the bytes of an unbroken one; writes benchmarks/results/.
faults: install
	$(BIN)/python -m benchmarks.faults

# MUTATIONS broken files, settings and arguments through every verb; writes benchmarks/results/.
MUTATIONS ?= 200
SEED ?= 0
fuzz: install
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.fuzz --mutations $(MUTATIONS) --seed $(SEED)

# Coverage-guided inputs through every importer, ten minutes; writes benchmarks/results/.
fuzz-import: install
	$(PIP_INSTALL) atheris
	$(BIN)/python -m benchmarks.fuzz_import

# The theorems, computed with the losses; writes experiments/results/, docs/theory.md and its plots.
theory: install
	$(BIN)/python -m experiments.theory

# The paper's claims on the demo's task, X1 to X8, X10 and X11; writes experiments/results/ and goes on
# where it stopped. Hours; make -j2 uses two cores. FAST=1: a smoke check, which writes no results.
reproduce: x2 x4 x3 x1 x6 x7 x5 x8 x10 x11

# What X2 and X4 run once more, but not in a smoke check: new seeds, and one rate for both weights.
AGAIN_2 = --flips 0.25 --seeds 20 21 22 23 24 --name x2_again
AGAIN_4 = --ratios 1:10 10:1 --methods "KTO, weights 1" "KTO, rule" --rate 3e-4 --name x4_one_rate
EXPERIMENT = $(BIN)/python -m $(basename $(subst /,.,$(wildcard experiments/x$*_*.py)))

x1 x2 x3 x4 x5 x6 x7 x8 x11: x%: install
	$(EXPERIMENT)
	$(if $(FAST),,$(if $(AGAIN_$*),$(EXPERIMENT) $(AGAIN_$*)))

# X9, model sizes from 0.3M to 16M: hours more, most of them for pretraining; make -j2 uses two cores.
reproduce-x9: x9-models-0 x9-models-1 x9-models-2
	$(BIN)/python -m experiments.x9_model_size

x9-models-%: install
	$(BIN)/python -m experiments.x9_model_size --seeds $* --pretrain-only

# Estimators of z0 beside the sampled KL, five seeds; writes experiments/results/. FAST=1: a smoke check.
x10: install
	$(BIN)/python -m experiments.z0_estimators

# How often the intervals of a win rate hold the truth, by simulation; writes experiments/results/.
intervals: install
	$(BIN)/python -m experiments.interval_coverage

# Wrong labels that an audit finds, five seeds; writes experiments/results/.
audit-auc: install
	$(BIN)/python -m experiments.audit_auc

# Adapters against whole weights on the demo, three seeds; writes benchmarks/results/.
lora-demo: install
	$(BIN)/python -m benchmarks.lora_demo

clean:
	rm -rf $(VENV) $(VENV)-trl $(VENV)-trl024

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "thumbs needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

# torch goes first: a bare requirement would pull the CUDA build's packages.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) torch==2.13.0
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@

$(VENV)-trl/installed $(VENV)-trl024/installed: $(VENV)-%/installed: benchmarks/requirements-%.txt
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@
