PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRAIN := .venv-training
PYTEST_ARGS ?=
WORKERS ?= 3
SIDE_BY_SIDE = -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup setup-rtx run demo test test-fast check format docs docs-site bench torment bench-scoring gpu-proof train-setup train-test lock bundle clean

help: ## say what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.installed ## make .venv with everything that serving and its tests need

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

setup-rtx: setup ## add TensorRT-RTX, which builds engines with or without a GPU
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[tensorrt-rtx]'

run: setup ## setup, then serve
	$(BIN)/agent serve

demo: setup ## a dozen synthetic patients from association to archive
	$(BIN)/agent demo

test: setup ## setup, then every test that needs no torch and no GPU
	$(BIN)/python -m pytest --ignore tests/training $(SIDE_BY_SIDE) $(PYTEST_ARGS)

test-fast: setup ## the tests that start no process and no peer
	$(BIN)/python -m pytest --ignore tests/training -m 'not peers and not acceptance' $(SIDE_BY_SIDE) $(PYTEST_ARGS)

check: setup ## lint, types, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## put the code in its usual shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup ## write the generated pages
	for page in settings.md commands.md delivery.md conformance.md sr-template.md; do $(BIN)/python -m agent.cli.reference $$page > docs/$$page || exit 1; done

docs-site: setup ## the manual as a site in build/site, strict
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --quiet

bench-scoring: setup train-setup ## scoring on large members: torch, then every engine here, in one run
	test -e build/bench/bundle.json || $(TRAIN)/bin/python -m training.bundle.speed build/bench --export
	test -e build/bench-separate/bundle.json || $(TRAIN)/bin/python -m training.bundle.speed build/bench-separate --separate --export
	$(TRAIN)/bin/python -m training.bundle.speed build/bench
	$(TRAIN)/bin/python -m training.bundle.speed build/bench-separate --separate
	$(BIN)/python -m pytest tests/load/test_scoring_bench.py tests/load/test_way_bench.py -m bench -s $(PYTEST_ARGS)

gpu-proof: setup ## on a GPU: build, verify and time every engine in one go
	$(BIN)/python -m pytest tests/gpu
	$(BIN)/python -m tests.gpu.prove

bench: setup ## speed and memory, as ratios against a peer in the same run
	$(BIN)/python -m pytest tests/load -m bench -s $(PYTEST_ARGS)

torment: setup ## fuzz both ways of receiving, then kill an agent while it receives; says what was seen
	$(BIN)/python -m tests.load.fuzz_pdus --core --pdus 1000000
	$(BIN)/python -m tests.load.fuzz_pdus --seconds 600 --path fast
	$(BIN)/python -m tests.load.fuzz_pdus --seconds 600 --path stock
	$(BIN)/python -m tests.load.kill_ingest --kills 1000 --groups 100

train-setup: $(TRAIN)/.installed ## make .venv-training with what training and its tests need

$(TRAIN)/.installed: pyproject.toml constraints.txt
	test -x $(TRAIN)/bin/python || $(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[training-core]'
	touch $@

train-test: train-setup ## the tests of training
	$(TRAIN)/bin/python -m pytest tests/training -n 2 --dist loadfile $(PYTEST_ARGS)

lock: ## take the newest versions that fit together into constraints.txt; torch's is chosen by hand
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	grep '^torch==' constraints.txt > build/lock/kept.txt
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check --constraint build/lock/kept.txt '.[dev,training-core,browser,deploy,docs]'
	head -1 constraints.txt > build/lock/constraints.txt
	build/lock/bin/python -m pip freeze --exclude steatosis-agent | sed 's/+cpu$$//' >> build/lock/constraints.txt
	cp build/lock/constraints.txt constraints.txt

bundle: train-setup ## train, calibrate and export the reference bundle
	$(TRAIN)/bin/python -m training reference

clean: ## remove what the targets made
	rm -rf $(VENV) $(TRAIN) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
