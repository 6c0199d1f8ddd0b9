# make demo   run a study offline, in a few minutes, installs included
# make test   every test
# make check  formatting, types and the fast tests
# make bench  the benchmarks, small sizes
# make setup  a virtual environment with everything that development needs
#
# TORCH_INDEX=<url> takes PyTorch from that index; by default pip's own configuration decides.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

export TOKENIZERS_PARALLELISM := false

.PHONY: setup demo test check types fast bench clean

setup: $(VENV)/.dev

demo: $(VENV)/.train,retrieve
	$(BIN)/understudy run examples/demo.yaml
	@echo
	@echo "That was recorded. The same question put to an endpoint of your own (for your own rows change what stands under task):"
	@echo "  export OPENAI_API_KEY=...   # and OPENAI_BASE_URL=... for another endpoint than OpenAI's"
	@echo "  $(BIN)/understudy estimate examples/live.yaml"
	@echo "  $(BIN)/understudy run examples/live.yaml"

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --durations 5

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory --jobs 2 --output-sync types fast

types: $(VENV)/.dev
	$(BIN)/pyright src

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "not slow"

bench: $(VENV)/.dev
	for file in benchmarks/*.py; do $(BIN)/python $$file --quick || exit 1; done

clean:
	rm -rf $(VENV) runs

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + "; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

ifneq ($(TORCH_INDEX),)
.PHONY: $(VENV)/.torch  # a new index counts, also where another was used before
endif
$(VENV)/.torch: $(BIN)/python constraints.txt
ifneq ($(TORCH_INDEX),)
	$(PIP) install --no-deps --index-url $(TORCH_INDEX) $$(grep ^torch== constraints.txt)
endif
	@touch $@

$(VENV)/.%: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt --editable '.[$*]'
	@touch $@
