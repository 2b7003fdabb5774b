# Every target does all the set-up it needs: a virtual environment in .venv, pinned by constraints.txt.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo app test test-all lint docs bench clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,docs]"
	touch $@

demo: $(STAMP)
	$(BIN)/stylegan-surv demo --out demo

app: $(STAMP)
	test -f demo/study.json || $(BIN)/stylegan-surv demo --out demo
	$(BIN)/stylegan-surv app demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

test: lint docs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup

test-all: lint docs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup -m "not gpu"

BENCHMARKS := ops cox metrics_speed recovery inversion_truth classify
bench: $(STAMP)
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done

clean:
	rm -rf demo site build dist .mypy_cache .ruff_cache .pytest_cache
