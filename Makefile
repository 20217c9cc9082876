# make demo      a real pipeline on three kernels; pictures in demo-report/
# make test      lint, types, tests, doctests, notebooks, a real browser
# make lab       JupyterLab with the example notebooks and the panel
# make frontend  what notebooks and JupyterLab show live, built from labextension/ when that has changed
# make soak      ten minutes of random runs over twenty nodes that are killed at random
# make bench     handoff_lab and its peers on the same work
# make fuzz      a million hostile inputs for all that reads what others wrote
# make clean     everything that was made here, the environment too
#
# Each makes .venv when it is not there. PYTHON=python3.12 chooses the Python.

SHELL := /bin/bash
BIN := .venv/bin
export PYTHON

.PHONY: demo test lab frontend soak bench fuzz clean
.NOTPARALLEL:
.DEFAULT_GOAL := test

# One stamp per set of extras: scripts/setup.sh runs again when pyproject.toml changes, else not.
$(BIN)/.setup-%: pyproject.toml scripts/setup.sh
	@scripts/setup.sh $*
	@touch $@

demo: $(BIN)/.setup-notebooks
	@$(BIN)/handoff-lab demo --report demo-report

frontend: $(BIN)/.setup-notebooks $(BIN)/.frontend

# Made after .setup-*, in whatever environment that gave.
FRONTEND := $(wildcard labextension/*.*) $(shell find labextension/src labextension/style labextension/schema -type f)
$(BIN)/.frontend: $(FRONTEND) labextension/.npmrc scripts/frontend.sh
	@scripts/frontend.sh
	@touch $@

test: $(BIN)/.setup-test $(BIN)/.frontend
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@scripts/test.sh

lab: $(BIN)/.setup-notebooks,dask,ipyparallel $(BIN)/.frontend
	$(BIN)/jupyter lab notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

soak: $(BIN)/.setup-test
	$(BIN)/python -m handoff_lab.testing.soak

bench: $(BIN)/.setup-bench
	$(BIN)/python benchmarks/run.py

fuzz: $(BIN)/.setup-test,fuzz
	$(BIN)/python -m tests.safety.fuzz

clean:
	rm -rf labextension/node_modules labextension/build handoff_lab/widgets/static
	rm -rf .venv build dist demo-report .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
