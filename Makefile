# Every target prints what it does, sets up first what it needs, and costs nothing when there is nothing to do.
# Another interpreter: make setup PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lock clean

help:
	@echo "make setup   environment in $(VENV), with $(BIN)/tokenloom"
	@echo "make demo    one prompt by all three decoders, pictures and report under outputs/demo/"
	@echo "make test    the tests"
	@echo "make check   formatting, lint and types"
	@echo "make lock    pin the newest allowed versions again, with hashes, in requirements.lock"
	@echo "make clean   remove what the other targets made, the environment included"

setup: $(STAMP)

# The installer comes by pip from the same pins as everything else, then installs the rest many times faster than pip.
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "setup: Python 3.11 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "setup: creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "setup: installing the installer (uv)"
	@awk '/^[a-z]/ { keep = /^uv==/ } keep' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.lock
	@echo "setup: installing the pinned libraries (about 6 GB on Linux, most of it torch and CUDA)"
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements.lock
	@echo "setup: installing tokenloom, editable"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "setup: done"

demo: setup
	@echo "demo: drawing one prompt with every decoder, from the shipped weights"
	@$(BIN)/tokenloom compare "a red circle to the left of a blue square" --decoders ar,masked,diffusion --out outputs/demo
	@echo "demo: drawing a clip, turning it into tokens, and the tokens back"
	@$(BIN)/tokenloom text-to-video "a red circle moves to the right" --decoder masked --out outputs/demo/clip.mp4
	@$(BIN)/tokenloom tokenize-video outputs/demo/clip.mp4 --out outputs/demo/shards
	@$(BIN)/tokenloom detokenize outputs/demo/shards --overwrite --out outputs/demo/from-tokens
	@echo "demo: what picture and clip show, in the model's words"
	@$(BIN)/tokenloom image-to-text outputs/demo/00-ar-00.png
	@$(BIN)/tokenloom video-to-text outputs/demo/clip.mp4
	@echo "demo: saying digits with every decoder, and writing them down"
	@$(BIN)/tokenloom compare "seven two nine" --modality audio --out outputs/demo/speech
	@$(BIN)/tokenloom speech-to-text outputs/demo/speech/00-masked-00.wav

test: setup
	@echo "test: running the tests, a file at a time on each core"
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

# mypy reads an installed copy: the source folder is not called tokenloom, and so mypy could not name the modules there.
check: setup
	@echo "check: formatting"
	@$(BIN)/ruff format --check .
	@echo "check: lint"
	@$(BIN)/ruff check .
	@echo "check: types, on an installed copy"
	@rm -rf build
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --target build/typed .
	@cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p tokenloom

lock: setup
	@echo "lock: resolving for every platform and Python from 3.11"
	@$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 --fork-strategy fewest \
		--upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o requirements.lock

clean:
	rm -rf $(VENV) build dist outputs/demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
