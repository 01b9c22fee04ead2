# `make` lists what there is. PYTHON=... names the interpreter of a new .venv (3.10 to 3.13), JOBS=... the number of test processes.
JOBS ?= 2
described := settings.ini setup.py pyproject.toml tools/venv.sh
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test test-gpu gpu export notebooks readme docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.setup ## the package and what it needs, in .venv
.venv/.setup: $(described)
	@tools/venv.sh .
	@touch $@

demo: .venv/.setup ## synthesise, pre-train, probe: runs/demo/report.html
	.venv/bin/mtssl demo --out runs/demo

dev: .venv/.dev ## setup, and the tools to change and test the package
.venv/.dev: $(described)
	@tools/venv.sh '.[dev]'
	@if [ -d .git ] && [ -z "$(CI)" ]; then .venv/bin/nbdev_install_hooks && git config --local merge.nbdev-merge.driver '.venv/bin/nbdev_merge %O %A %B %P'; fi
	@touch .venv/.setup $@

test: .venv/.dev ## all that CI runs
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n $(JOBS) --dist worksteal tests

test-gpu: .venv/.dev ## what only a GPU can show, where there is one
	@if .venv/bin/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then .venv/bin/python -m pytest tests/test_gpu.py; \
	else echo 'There is no GPU here, so nothing was tested: run make test-gpu on a machine with one.'; fi

gpu: .venv/.dev ## test-gpu and benchmarks/gpu.py, into OUT (runs/gpu)
	benchmarks/gpu.sh $(or $(OUT),runs/gpu)

lint: .venv/.dev ## what ruff finds, for Python 3.10 on
	.venv/bin/ruff check .

export: .venv/.dev ## modules from notebooks, and the names they register
	.venv/bin/nbdev_export
	.venv/bin/python tools/names.py

notebooks: .venv/.dev ## run every notebook and store its outputs
	.venv/bin/python tools/execute.py

readme: .venv/.dev ## README.md from nbs/index.ipynb
	.venv/bin/python tools/readme.py

docs: .venv/.dev ## the website, in _docs/index.html; with Quarto where it is installed
	@if command -v quarto > /dev/null; then .venv/bin/nbdev_proc_nbs && quarto render _proc --no-cache && rm -rf _docs && mv _proc/_docs _docs; \
	else .venv/bin/python tools/render.py; fi

clean: ## remove what was built; runs/ and .venv stay
	rm -rf build dist _proc _docs _site *.egg-info .pytest_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
