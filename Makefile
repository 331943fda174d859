PYTHON ?= python3
BIN := .venv/bin

.PHONY: install label-studio demo test test-ci test-all test-vllm test-deepspeed campaign audit check check-trl docs bench clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

# The labelling server has a virtual environment of its own, in the user's cache.
label-studio: install
	$(BIN)/rlhf label serve --install_only

demo: install
	$(BIN)/rlhf demo

test: install
	$(BIN)/python -m pytest -m "not slow and not long and not campaign"

# Two files at a time: much of the slow tests is waiting for servers and browsers.
test-ci: install
	$(BIN)/python -m pytest -m "not campaign and not long" -n 2 --dist loadfile

test-all: install label-studio
	$(BIN)/python -m pytest -m "not campaign" -n 2 --dist loadfile

# A live vLLM on this machine's CPU, in an environment of its own (Python 3.11; its transformers is another version).
test-vllm:
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install -q --no-deps --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu
	.venv-vllm/bin/python -m pip install -q --no-deps -r constraints-vllm.txt
	RLHF_VLLM=1 .venv-vllm/bin/python -m pytest -s tests/vllm

# ZeRO-2 and ZeRO-3 on two processes of this machine's CPU: DeepSpeed in an environment of its own, which sees .venv's
# packages. Its communication for CPUs is compiled first (a minute; g++), where two processes would wait for each other.
test-deepspeed: install
	test -x .venv-deepspeed/bin/python || $(BIN)/python -m venv .venv-deepspeed
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > "$$(.venv-deepspeed/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/toolkit.pth"
	DS_BUILD_OPS=0 .venv-deepspeed/bin/python -m pip install -q --no-deps -r constraints-deepspeed.txt
	TORCH_EXTENSIONS_DIR=$(CURDIR)/.venv-deepspeed/ops PATH="$(CURDIR)/.venv-deepspeed/bin:$$PATH" \
	  .venv-deepspeed/bin/python -c "from deepspeed.comm.torch import build_shm_op; build_shm_op()"
	RLHF_DEEPSPEED=1 TORCH_EXTENSIONS_DIR=$(CURDIR)/.venv-deepspeed/ops PATH="$(CURDIR)/.venv-deepspeed/bin:$$PATH" \
	  .venv-deepspeed/bin/python -m pytest tests/zero

# Hundreds of kills, full disks and bad inputs over every command (docs/reliability.md has the figures of the last one).
campaign: install
	RLHF_REQUIRE_REAL=1 $(BIN)/python -m pytest tests/campaign tests/rlhf/ppo/test_straggler.py tests/rlhf/ppo/test_agreement.py

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# The site, strictly: no page out of a toctree, no broken link, nothing asked of a network. docs/generate.py is run first.
docs: install
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -q -W --keep-going -n -b html docs docs/_build/html
	$(BIN)/python .ci/links.py docs/_build/html
	@echo "open docs/_build/html/index.html"

# Known vulnerabilities of what constraints.txt pins; says so where the index cannot be asked.
audit:
	test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && \
	  .venv-audit/bin/python -m pip install -q pip-audit==2.10.1 || echo "audit: pip-audit cannot be installed here"; }
	{ .venv-audit/bin/pip-audit --disable-pip --no-deps --progress-spinner off -f json -r constraints.txt 2>/dev/null \
	  || true; } | $(PYTHON) .ci/audit.py

# The demo over seeds, then iterations side by side with a plain loop and TRL's trainers, how they grow with the work, a
# picture of it, and the way to a reward; TRL 1.12 has an environment of its own. About three hours on two cores.
bench: install .venv-trl112/.installed
	$(BIN)/python benchmarks/demo.py
	$(BIN)/python benchmarks/speed.py --settings 1M 3M smollm2 smollm2_last_layer \
	  --trl_ppo_python .venv-trl112/bin/python --output benchmarks/results.json
	$(BIN)/python benchmarks/growth.py --output benchmarks/results.json
	$(BIN)/python benchmarks/speed_picture.py benchmarks/results.json docs/speed.png
	$(BIN)/python benchmarks/quality.py --directory runs/quality --jobs 2 \
	  --trl_ppo_python .venv-trl112/bin/python --output benchmarks/quality.json

.venv-trl112/.installed: constraints.txt
	test -x .venv-trl112/bin/python || $(PYTHON) -m venv .venv-trl112
	grep -v '^trl==' constraints.txt > .venv-trl112/constraints.txt
	.venv-trl112/bin/python -m pip install -q -c .venv-trl112/constraints.txt trl==1.12.0 torch==2.13.0
	touch $@

clean:
	rm -rf .venv .venv-trl .venv-trl112 .venv-vllm .venv-deepspeed .venv-audit .pytest_cache .mypy_cache .ruff_cache docs/_build runs build *.egg-info

# The contract with TRL and the full-stop run on another version: make check-trl TRL=1.14.2, or TRL=latest.
TRL ?= latest
check-trl: install
	test -x .venv-trl/bin/python || $(PYTHON) -m venv .venv-trl
	grep -v '^trl==' constraints.txt > .venv-trl/constraints.txt
	.venv-trl/bin/python -m pip install -q -c .venv-trl/constraints.txt -e '.[dev]' 'torch==2.13.0'
	.venv-trl/bin/python -m pip install -q --no-deps $(if $(filter latest,$(TRL)),--upgrade trl,trl==$(TRL))
	.venv-trl/bin/python -m pytest -q tests/test_trl_contract.py tests/rlhf/ppo/test_architectures.py
