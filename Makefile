# make demo: train, evaluate and report on real MRI. make test: all tests but
# the slow ones (kills, attacks, whole trainings, long notebooks), which make
# slow runs.
# make bench: side by side with PyTorch and MONAI, into benchmarks/README.md.
# make docs: the guides and the API reference as a site, into site/.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
EXTRAS ?= demo,test
WORKDIR ?= runs/demo

.PHONY: demo test slow lint bench docs

demo: $(VENV)/.installed-demo
	$(BIN)/python -m medjax.main --config=configs/unet.py --workdir=$(WORKDIR)

test: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m pytest -n 2 --dist=worksteal -m 'not slow'

slow: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/python -m pytest -n 2 --dist=worksteal -m slow

lint: $(VENV)/.installed-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/.installed-demo,bench
	$(BIN)/python benchmarks/suite.py
	$(BIN)/python benchmarks/suite.py --table

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/make_reference.py
	$(BIN)/zensical build --strict

$(VENV)/.installed-%: setup.py
	$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' \
	  2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	touch $@
