# `make` alone lists the targets. Everything runs in .venv, which the first target that needs it creates.

PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= 2
# One test in three waits for a server or another process, so that a third worker has room.
PYTEST_WORKERS ?= 3
# Flagged notebook cells to run too (see tst_flags in settings.ini); those on gold data run where it is.
FLAGS ?= $(if $(SYNTHLAB_GOLD),gold)
NB ?=
# Seconds that the notebooks, and then the other tests, may take.
LIMIT ?= 1000
# Processes that `make endure` ends.
KILLS ?= 200

bin := .venv/bin
# By a path and not by a finder, so that a folder named synthlab above the clone does not hide the package.
editable = $(bin)/python -m pip install -q --config-settings editable_mode=compat -e
limit = $(if $(shell which timeout 2>/dev/null),timeout $(LIMIT))

test test-long endure notebooks bench: export HF_HUB_OFFLINE ?= 1
test test-long endure notebooks bench: export HF_HUB_DISABLE_TELEMETRY = 1
test test-long endure notebooks bench: export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help install demo test test-long endure notebooks export readme docs bench wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

install: .venv/installed ## create .venv and install synthlab in it

demo: .venv/installed ## write a small dataset twice, plainly and with a choice at every stage, and compare
	$(bin)/synthlab demo

# Lessons are run by pytest, in a folder of their own, with their answers.
test: .venv/installed-dev ## run the tests: package and README in step, notebooks, pytest
	$(bin)/python -m pytest -q tests/test_sync.py
	OMP_NUM_THREADS=1 $(limit) $(bin)/nbdev_test --n_workers $(WORKERS) --flags "$(FLAGS)" --do_print --timing \
		--skip_folder_re '^[_.]|^tutorials$$'
	OMP_NUM_THREADS=1 $(limit) $(bin)/python -m pytest -q -rs -n $(PYTEST_WORKERS) --dist worksteal -m 'not long' tests --ignore tests/test_sync.py

test-long: LIMIT = 3600
test-long: .venv/installed-dev ## run the slow tests and larger sizes that `make test` leaves out (half an hour)
	OMP_NUM_THREADS=1 $(limit) $(bin)/python -m pytest -q -rs -n $(PYTEST_WORKERS) --dist worksteal -m long tests

endure: .venv/installed-dev ## end every command by kill -9 at random moments (KILLS=200), and compare with uninterrupted runs
	OMP_NUM_THREADS=1 $(bin)/python -W ignore tests/tools/endure.py --kills $(KILLS)

notebooks: .venv/installed-dev ## run notebooks in place (NB="..." for some, FLAGS="..." for flagged cells), export, render
	$(MAKE) --no-print-directory export
	$(bin)/python tests/tools/run_notebooks.py --flags "$(FLAGS)" $(NB)
	$(MAKE) --no-print-directory readme

export: .venv/installed-dev ## clean the notebooks and export them to synthlab/
	$(bin)/nbdev_clean
	$(bin)/nbdev_export
	$(bin)/python tests/tools/folder_faces.py

readme: .venv/installed-dev ## render nbs/index.ipynb to README.md
	$(bin)/python tests/tools/render_readme.py

# Only a build without a warning and without a dead link becomes _docs.
docs: .venv/installed-docs ## build the site in _docs: notebooks, methods, API (open _docs/index.html)
	$(bin)/python docs/stage.py _proc/pages
	OMP_NUM_THREADS=1 $(bin)/python -m sphinx -q -j auto -W --keep-going -c docs -d _proc/doctrees _proc/pages _proc/site
	$(bin)/python docs/check.py _proc/site
	rm -rf _docs
	cp -R _proc/site _docs

bench: .venv/installed-dev ## run the benchmarks
	for script in tests/benchmarks/bench_*.py; do $(bin)/python $$script || exit 1; done

wheel: .venv/installed ## build a wheel in dist/
	rm -rf build
	$(bin)/python -m pip wheel -q --no-deps --wheel-dir dist .
	@ls -l dist

clean: ## remove what was built; .venv and runs/ stay
	rm -rf build dist _docs _proc .hypothesis .pytest_cache
	find docs nbs synthlab tests -name __pycache__ -prune -exec rm -rf {} +

# torch comes first and pinned, so that a CPU build at hand is taken before the newest with its GPU libraries;
# TORCH=... takes another.
.venv/installed: settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "synthlab needs Python 3.11 or newer (make PYTHON=...)")'
	@echo "Installing into .venv: some minutes the first time"
	$(PYTHON) -m venv .venv
	$(bin)/python -m pip install -q $(TORCH)
	$(editable) '.[offline,structured]'
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the tools for tests and notebooks"
	$(editable) '.[offline,dev]'
	@touch $@

.venv/installed-docs: .venv/installed
	@echo "Installing the tools for the site"
	$(editable) '.[offline,docs]'
	@touch $@
