# Everything runs in .venv, made with one resolver pass. `make demo` and `make test` need only Python 3.11 and make.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-slow lint bench experiment emulated-device docs venv clean

demo: $(STAMP)
	$(BIN)/datk run recipes/quickstart.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow --timeout=3600

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p datk
	$(BIN)/lint-imports

# An ARM64 device in software judges the newest run's int8 artifacts; needs debootstrap and openssh-server (apt-get).
FARM := $(VENV)/arm64
emulated-device: $(STAMP)
	PYTHON=$(BIN)/python .ci/emulated-device setup $(FARM)
	PYTHON=$(BIN)/python .ci/emulated-device start $(FARM)
	$(BIN)/datk farm run --devices arm64-soft,host --inventory $(FARM)/devices.yaml --precision int8 --count 50 \
		--rounds 1 --runs 1 --warmup 0; \
		code=$$?; .ci/emulated-device stop $(FARM); exit $$code

bench: $(STAMP)
	$(BIN)/python -m tests.bench

experiment: $(STAMP)
	$(BIN)/python docs/experiments/beyond.py runs/experiments/beyond

docs: $(STAMP)
	$(BIN)/python docs/make_cli_page.py

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	$(BIN)/python -m pip check
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist toolkit/*.egg-info
