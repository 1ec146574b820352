# Each target installs what it needs (once) into .venv; Python >= 3.11 and PyPI are enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: table1 demo test lint bench faults clean-venv

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,fast]"
	mkdir -p build/link && ln -sfn ../.. build/link/reprise
	@touch $@

table1: .venv/.installed
	$(BIN)/run_protocol table1 --tier demo

# Every table and figure of the paper at tier demo: embedded digits and a few renders, nothing to download.
demo: .venv/.installed
	$(BIN)/run_protocol --all gnm --tier demo

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy build/link/reprise

# Five processes for two cores, since tests of queues and kills wait for minutes; threads that wait for each other's
# turn would cost more than they help.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 5 --dist loadfile --no-loadscope-reorder --durations=25

# Ratios to the straightforward code, into benchmarks/RESULTS.md; fails if something became a third slower than when it
# was last called here. Wants a machine that does nothing else, and more than half an hour. Some of it:
# pytest benchmarks --update-results -k draws
bench: .venv/.installed
	$(BIN)/pytest benchmarks --write-results --benchmark-storage=build/benchmarks --benchmark-autosave \
		$(if $(wildcard build/benchmarks/*/*.json),--benchmark-compare --benchmark-compare-fail=median:33%)

# kill -9, full disks, garbled and hostile files, models that misbehave, a node that dies: each is a test. And known bugs,
# put in one at a time: is each caught? Both tables are printed and kept in reports/faults.md. Takes about ten minutes.
faults: .venv/.installed
	REPRISE_FAULTS=build/faults.md $(BIN)/pytest tests/test_faults_*.py tests/test_launch.py tests/test_slurm.py tests/test_shards.py
	mkdir -p build && $(BIN)/reprise self-test > build/mutants.txt; status=$$?; cat build/mutants.txt; exit $$status
	$(BIN)/python tests/faults_page.py

clean-venv:
	rm -rf .venv
