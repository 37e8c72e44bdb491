# Every target works from a bare clone: it creates .venv first. Needs Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
WHEEL := build/wheel

# The frameworks whose models the tests measure. They go in without their dependencies, since two of
# them require torchvision: beside another build of torch than its own, importing it fails, and with
# it importing torchmetrics. What they do import is in the extra `tests`.
FRAMEWORKS := snntorch spikingjelly norse sinabs
# What the tests compare with, without dependencies too: tonic, torchaudio and numba are for data
# sets and preprocessing. Its metrics import none of them.
PEERS := neurobench

.PHONY: demo test kernels check coverage dist wheel docs browser venv lint format bench clean

demo: venv  ## Count synaptic operations of a spiking network on real data
	$(BIN)/python examples/quickstart.py

test: venv lint  ## Lint, types, doctests and the whole test suite
	$(BIN)/python -m pytest -n 2 -m "not kernels"

kernels: venv  ## All frozen models through the kernels for accelerators, interpreted
	$(BIN)/python -m pytest -n 2 -m kernels tests/monitor/test_accelerators.py

QUICK := not system and not slow and not gpu and not kernels
check: venv lint  ## Lint, types and the quick tests, for the inner loop
	$(BIN)/python -m pytest -n 2 -m "$(QUICK)"

coverage: venv  ## Lines and branches that the quick tests run; fails below the floor in pyproject.toml
	$(BIN)/python -m pytest -n 2 -m "$(QUICK)" --cov --cov-report=term

# The wheel is made of the sdist, and of nothing else.
dist: venv  ## sdist and wheel in dist/, checked, and what is in them
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python -m tarfile --list dist/*.tar.gz
	$(BIN)/python -m zipfile --list dist/*.whl

# Of the frameworks SpikingJelly alone: the README measures a model of it.
wheel: dist  ## The code of the README and the tests that need no framework, against the wheel
	rm -rf $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/pip install --quiet -c constraints.txt "$$(echo dist/*.whl)[plots,framework-imports]" \
		hypothesis pytest pytest-xdist tqdm
	$(WHEEL)/bin/pip install --quiet -c constraints.txt --no-deps spikingjelly
	$(WHEEL)/bin/python -c "import snnmetrics as sm; print(sm.__version__, sm.__file__); \
		assert 'site-packages' in sm.__file__"
	$(WHEEL)/bin/python -m pytest tests/test_docs.py -k first_pages
	$(WHEEL)/bin/python -m pytest -n 2 -m versions tests

docs: venv  ## The documentation in build/docs; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -E -q -b html docs build/docs

# Installs into the system, so no other target depends on it. Without Chromium the tests of the
# documentation in a browser are skipped and say so; in CI they fail.
browser:  ## Chromium, where apt may install it
	@command -v chromedriver >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
		|| { apt-get update -q && apt-get install -q -y --no-install-recommends chromium chromium-driver; } \
		|| echo "Chromium could not be installed"

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Wants a machine that does nothing else. On a CUDA device also, before the last line:
# -m benchmarks.on_device --json $(RESULTS)/on_device.json
RESULTS := benchmarks/results
bench: venv  ## What counting costs, beside plain PyTorch, torchmetrics and peers; fills the tables
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python -m benchmarks.overhead_of_monitor --json $(RESULTS)/overhead_1_thread.json
	$(BIN)/python -m benchmarks.parts --json $(RESULTS)/parts.json
	$(BIN)/python -m benchmarks.overhead_of_monitor --threads 2 --json $(RESULTS)/overhead_2_threads.json
	$(BIN)/python -m benchmarks.metric_update --json $(RESULTS)/metric_update.json
	$(BIN)/python -m benchmarks.peak_memory --json $(RESULTS)/peak_memory.json
	$(BIN)/python -m benchmarks.compiled --json $(RESULTS)/compiled.json
	$(BIN)/python -m benchmarks.options --json $(RESULTS)/options.json
	$(BIN)/python -m benchmarks.probes --json $(RESULTS)/probes.json
	$(BIN)/python -m benchmarks.publish

venv: $(STAMP)  ## The environment with everything that tests and examples need

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps $(FRAMEWORKS) $(PEERS)
	touch $(STAMP)

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis examples/out docs/gallery
