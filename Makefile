# make demo: the main job on an emulated Cortex-M7. make test: everything that CI checks. Both install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

DEMO_TOOLS := gcc=gcc arm-none-eabi-gcc=gcc-arm-none-eabi qemu-system-arm=qemu-system-arm
TEST_TOOLS := $(DEMO_TOOLS) g++=g++ riscv64-unknown-elf-gcc=gcc-riscv64-unknown-elf qemu-system-riscv32=qemu-system-misc \
	clang-format=clang-format cmake=cmake ccache=ccache chromium=chromium chromedriver=chromium-driver \
	arduino-builder=arduino-builder xtensa-lx106-elf-gcc=gcc-xtensa-lx106 \
	/usr/lib/arm-none-eabi/include/string.h=libnewlib-arm-none-eabi

.PHONY: demo test test-long lint format clean

demo: $(VENV)/ready-to-run
	@tools/install_packages $(DEMO_TOOLS)
	$(BIN)/fieldtune demo

test: lint
	$(PYTEST) -m "not long"

test-long: lint
	$(PYTEST)

lint: $(VENV)/ready-to-test
	@tools/install_packages $(TEST_TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	tools/check_c_format

format: $(VENV)/ready-to-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files -co --exclude-standard '*.c' '*.cc' '*.h' | xargs clang-format -i

clean:
	rm -rf $(VENV) build fieldtune-demo *.egg-info

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || tools/install_packages ensurepip=python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready-to-run: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/ready-to-test: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/ready-to-run
