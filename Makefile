# make demo   reconstruct the example scan            make test   the whole test suite
# make bench  time every stage, and the standard      make fast   the quick tests alone, minutes
#             algorithm beside it (BENCH=--quick)     make docs   the pages, docs/_build/html
# make clean  remove the set-up, runs and pages       make venv   the set-up alone
# Each target sets up what it needs in .venv; only Python >= 3.11 and make have to be there.

# Idle OpenMP threads sleep: where cores are shared, small convolutions are up to 30 times faster.
export OMP_WAIT_POLICY = PASSIVE
# Tests start many processes: compiled modules are kept also where the environment says not to.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
# Where the CPU build of torch is looked for first; PyPI is the fall-back.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: venv demo test fast bench docs clean

venv: $(READY)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "pdip needs Python 3.11 or newer, but '$(PYTHON)' is" \
	    "$$($(PYTHON) --version 2>&1); name another one: make $(MAKECMDGOALS) PYTHON=python3.11"; \
	  exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu install the package python3-venv"; \
	  exit 1; }
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 \
	  --extra-index-url $(TORCH_INDEX) "$$(grep '^torch==' requirements.txt)"
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY)
	$(RUN) reconstruct.py --sinogram data/example/scan.npz --out runs/demo --overwrite

# One process of one thread on each core; a file's tests share what they set up.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST)

fast: $(READY)
	$(PYTEST) -m "not slow"

bench: $(READY)
	$(RUN) -m benchmarks $(BENCH)

docs: $(READY)
	$(RUN) -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "written: docs/_build/html/index.html"

clean:
	rm -rf $(VENV) runs docs/_build docs/drawn docs/notebooks
