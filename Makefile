# Two commands: `make demo` trains and measures a judge on the embedded benchmark; `make test` runs the checks and tests.
# `make test-fast` runs what is quick; `make coverage` runs all tests and fails below the floor of pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export DO_NOT_TRACK := 1
# Two workers with one thread each, because the tests of training and judging are bound by the processor. The tests of a file share a worker,
# so that what they share is made once.
TWO_WORKERS := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# Without whole pipelines, trainings and servers.
FAST := tests/agreement tests/datasets tests/judging/protocols tests/reporting tests/statistics tests/cli/test_params.py \
  tests/test_answers.py tests/test_architecture.py tests/test_config.py tests/test_pages.py tests/test_words.py

.PHONY: demo test test-fast test-models coverage lint bench mutants fuzz install lock clean

demo: install
	HF_HUB_OFFLINE=1 $(BIN)/kedro run
	@echo
	@echo "The report is data/08_reporting/shapes/tiny_vlm/full/seed_0/report.html"

test: lint
	$(TWO_WORKERS)

test-fast: install
	$(TWO_WORKERS) -m "not slow" $(FAST)

coverage: install
	$(TWO_WORKERS) --cov --cov-report=term:skip-covered

# Every architecture, the table in the docs of what works on which, and docs/gpu.md from top to bottom; some five minutes.
test-models: install
	T2I_EVAL_MODELS_TABLE=docs/models.md OMP_NUM_THREADS=1 $(BIN)/pytest -m "models or not models" tests/judging/backends/test_architectures.py
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "models or not models" tests/test_gpu_page.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: install
	$(BIN)/python -m perf

# Mutation testing of the code that decides figures (docs/robustness.md); hours on one core, and it goes on where it was stopped.
mutants: install
	OMP_NUM_THREADS=1 nice $(BIN)/python -m perf.mutants

# 5,000 changes of good files (docs/robustness.md); some ten minutes.
fuzz: install
	OMP_NUM_THREADS=1 T2I_EVAL_FUZZ=5000 $(BIN)/pytest -q -s tests/tables/test_fuzz.py

install: $(VENV)/.installed

# One pip call with the lock as constraints: every version, torch's among them, is the one that was tested.
$(VENV)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Python 3.11 to 3.13 is needed; run make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev,dvc,notebook,quantize,ray,serve,teacher,train,viz]'
	touch $@

# Writes the versions of the working environment into the lock, after a deliberate upgrade.
lock:
	$(BIN)/pip freeze --exclude-editable --exclude t2i-eval-kedro > requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
