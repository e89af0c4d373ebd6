# `make demo` and `make test` need Python >= 3.11 with venv and nothing else; `make help` lists the rest.
# Kept to what GNU Make 3.81 knows, which macOS ships.

# The Python that makes .venv: the first of these that is new enough, or `make PYTHON=/path/to/python3.12 test`.
PYTHON :=
PYTHONS := $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python3.14)

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PACKAGES := export kernels runtime src/unfoldc targets unfold_train
CHECKED := $(PACKAGES) $(wildcard tests benchmarks examples docs)
WORKERS := 2
# A file stays with one worker: what its tests share is built once.
BY_FILE := -n $(WORKERS) --dist loadfile
# Helpers reach tests through fixtures, which carry no exact types.
LOOSER := --allow-untyped-calls --no-warn-return-any --no-warn-unused-ignores

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# One step after the other under `make -j` too: pip must not run twice at once, and what a step prints stays together.
.NOTPARALLEL:
.PHONY: help demo test test-full setup lint types imports pytest format clean distclean FORCE

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: .venv/.demo build/.linked ## train, export, compile and run the example; the result is build/demo/report.html
	$(BIN)/unfoldc demo --output build/demo

test: lint types imports pytest ## style, types, import contracts and all tests but the slow ones

test-full: lint types imports ## the same with the slow tests
	$(BIN)/python -m pytest $(BY_FILE) -m '' $(OPTIONS)

lint: .venv/.dev ## ruff: mistakes and layout
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: .venv/.dev build/.linked ## mypy, strict
	$(BIN)/mypy --package unfoldc
	MYPYPATH=tests $(BIN)/mypy $(LOOSER) tests

imports: .venv/.dev build/.linked ## the import contracts in pyproject.toml
	$(BIN)/lint-imports

pytest: .venv/.dev build/.linked ## the tests alone; OPTIONS="-k name" chooses among them
	$(BIN)/python -m pytest $(BY_FILE) $(OPTIONS)

format: .venv/.dev ## rewrite the layout of the files, repair what ruff can
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

setup: .venv/.dev build/.linked ## set up .venv and nothing more

clean: ## remove what was made from the sources, keep .venv
	find build -mindepth 1 -maxdepth 1 ! -name '__editable__*' ! -name .linked ! -name files.txt -exec rm -rf {} + 2>/dev/null || true
	rm -rf dist *.egg-info .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(CHECKED) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf .venv

.venv/.created:
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	      echo "$$python has no venv module: install it (Debian, Ubuntu: apt install python3-venv) and try again." >&2; exit 1; \
	    fi; \
	    echo "$$python -m venv .venv"; "$$python" -m venv .venv && touch $@; exit $$?; \
	  fi; \
	done; \
	echo "unfoldc needs Python 3.11 or later; none of these is: $(PYTHONS)." \
	  "Install one, or name it: make PYTHON=/path/to/python3.12 test" >&2; exit 1

# Requirements are installed apart from the project, so that a new source file costs the last step only, some seconds.
REQUIREMENTS = $(BIN)/python -c 'import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
  extras = p["project"]["optional-dependencies"]; \
  print(*p["build-system"]["requires"], *p["project"]["dependencies"], *sum((extras[e] for e in sys.argv[1:]), []), sep="\n")'

.venv/.demo: .venv/.created pyproject.toml constraints.txt
	@$(REQUIREMENTS) train report > .venv/demo.txt
	$(PIP) install --constraint constraints.txt --requirement .venv/demo.txt
	@touch $@

# NVIDIA's compilers are on Linux alone; with them tests compile kernels without a GPU.
.venv/.dev: .venv/.demo
	@$(REQUIREMENTS) tvm dev $(if $(filter Linux,$(shell uname -s)),cuda) > .venv/dev.txt
	$(PIP) install --constraint constraints.txt --requirement .venv/dev.txt
	@touch $@

# mypy and import-linter understand only the strict form of an editable install, a tree of links to the files that
# there were; so it is made again whenever the list of files has changed.
build/.linked: .venv/.demo build/files.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --config-settings editable_mode=strict --editable .
	@touch $@

build/files.txt: FORCE
	@mkdir -p build
	@find $(PACKAGES) -type f ! -path '*/__pycache__/*' | LC_ALL=C sort > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
