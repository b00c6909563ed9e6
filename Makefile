# Every command makes the environment it needs in .venv, from pyproject.toml and constraints.txt, and keeps it up to date.
# Works with GNU make 3.81 and later, in folders with spaces, and whatever other environment is active.

PYTHON ?= python3
WORKERS = 2
MINUTES = 120
SEQUENCES = 2000
ARGS =
QUIET = -qq

# What the referee promises is measured apart from the short benchmarks; a leading underscore marks what is no script.
ALARMS := benchmarks/false_alarms.py
LONG := $(ALARMS) $(addprefix benchmarks/,one_configuration.py search_regret.py verdict_rules.py)
SHORT := $(sort $(filter-out benchmarks/_% $(LONG),$(wildcard benchmarks/*.py)))

# What runs is this checkout, not what a PYTHONPATH points to. Bytecode is written at the first import (see `install`).
unexport PYTHONPATH PYTHONDONTWRITEBYTECODE

# A race and the tests each use all cores already; two things at once would only disturb each other.
.NOTPARALLEL:

.PHONY: help race test fuzz check docs bench lab claims alarms format environment clean anew

help: ## this list
	@echo 'usage: make COMMAND [ARGS="..."] [PYTHON=python3.12] [WORKERS=2]'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-15s%s\n", $$1, $$2 }'

race: .venv/.for-race ## race training recipes on this machine; ARGS go to `sooner race`
	@.venv/bin/sooner race $(ARGS)

# Files go to the processes whole, in the order of tests/conftest.py: the longest begin first.
test: .venv/.for-test ## run the tests; ARGS go to pytest, WORKERS is the number of processes
	@OMP_NUM_THREADS=1 .venv/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

fuzz: .venv/.for-test ## random edits, casts, copies and steps against a plain model (half an hour); SEQUENCES per executor
	@OMP_NUM_THREADS=1 SOONER_FUZZ=$(SEQUENCES) .venv/bin/pytest -n $(WORKERS) -rP tests/fuzz tests/loop/test_resume.py \
		tests/race/test_race_crash.py tests/forecast/read/test_formats.py $(ARGS)

check: .venv/.for-check ## formatting, lint, types, layers, no circles, then the same as `make test`
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python docs/_extensions/import_graph.py
	@$(MAKE) --no-print-directory test

docs: .venv/.for-docs ## build the site into build/site, offline; ARGS go to sphinx-build, which fails on any warning
	@rm -rf build/pages build/site && mkdir -p build/pages
	@.venv/bin/sphinx-build -q -W --keep-going -E -d build/doctrees -c docs $(ARGS) build/pages build/site
	@echo 'the site begins at build/site/index.html'

bench: .venv/.for-race ## run the short benchmarks in turn (about ten minutes, on a quiet machine)
	@for script in $(SHORT); do echo "== $$script"; .venv/bin/python "$$script" || exit; done

claims: .venv/.for-race ## run the papers' claims, within MINUTES on 2 cores, and publish what came out in evidence/
	@.venv/bin/sooner claim --all --minutes $(MINUTES) --publish evidence $(ARGS)

lab: .venv/.for-race ## look for the known truths on the bundled workloads, within MINUTES, and publish in evidence/lab/
	@.venv/bin/sooner lab --minutes $(MINUTES) --publish evidence/lab $(ARGS)

alarms: .venv/.for-race ## false alarms in 1,000 races (about 10 minutes on 2 cores); goes on where it was stopped
	@.venv/bin/python $(ALARMS) --folder races/false-alarms $(ARGS)

format: .venv/.for-check ## rewrite the code in the house style
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

environment: .venv/.for-check ## only make or update .venv, with everything in it

clean: ## remove .venv, caches and builds; races/ holds results and is kept
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find src tests benchmarks docs -name __pycache__ -prune -exec rm -rf {} +

# The environment has stages, so that a first race does not wait for tools that it does not use. The stamp of a stage
# is the file .venv/.unfinished, which is written when the stage starts and gets the stamp's name when it is done. Where that
# file is found, an installation was cut off, and there is no telling what is in place: the environment is made anew. So is
# one that came along with a moved folder, or whose Python is gone. When pip itself gives up (no network, say), the stage has
# failed, but what was there before is as good as it was.

WHOLE := $(shell test ! -e .venv/.unfinished && test -x .venv/bin/python && \
	test "$$(cat .venv/.made-in 2>/dev/null)" = "$$(pwd -P)" && echo yes)

# Compiling the bytecode of every file of torch, SciPy and plotly would be half of the time that the installation takes.
install = .venv/bin/python -I -m pip install $(QUIET) --no-input --no-compile \
	-c constraints.txt --build-constraint constraints.txt

define stage
@trap 'exit 130' INT TERM HUP; touch .venv/.unfinished; \
{ $(1); } || { status=$$?; echo 'to hear more from pip: make QUIET= $(MAKECMDGOALS)' >&2; \
test $$status -gt 128 || rm -f .venv/.unfinished; exit $$status; }; \
mv .venv/.unfinished $@
endef

ifneq ($(WHOLE),yes)
.venv/.made-in: anew
endif

.venv/.made-in:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo '$(PYTHON) is not Python 3.11 or newer; name one that is, as in: make PYTHON=python3.12 race' >&2; exit 1; }
	@if test -e .venv && test ! -e .venv/.unfinished && test ! -e .venv/.made-in; then \
	echo '.venv is here already, but was not made by this Makefile; make clean removes it' >&2; exit 1; fi
	@echo 'environment: a new .venv'
	@rm -rf .venv && mkdir .venv && touch .venv/.unfinished
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -I -m pip install $(QUIET) --no-input -c constraints.txt pip # older ones know no dependency groups
	@pwd -P > $@ && rm .venv/.unfinished

.venv/.for-race: .venv/.made-in pyproject.toml constraints.txt
	@echo 'environment: torch (the largest part) and what sooner runs on'
	$(call stage,$(install) torch && $(install) --editable '.[digits]')

.venv/.for-test: .venv/.for-race
	@echo 'environment: test tools'
	$(call stage,$(install) --group test)

.venv/.for-docs: .venv/.for-race
	@echo 'environment: site tools'
	$(call stage,$(install) --group docs)

.venv/.for-check: .venv/.for-test
	@echo 'environment: check tools'
	$(call stage,$(install) --group check)
