#!/bin/sh
# Everything that needs a GPU, in one go: the tests, then the benchmark, into one folder; under 6 minutes on an H100.
#     benchmarks/gpu.sh runs/gpu
# PYTHON names the interpreter that has the package's development set (.venv/bin/python).
set -u
out=${1:?the folder to write, such as runs/gpu}
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
{ nvidia-smi; "$python" -m mtssl doctor; } > "$out/machine.txt" 2>&1
OMP_NUM_THREADS=4 "$python" -m pytest -q tests/test_gpu.py > "$out/tests.txt" 2>&1
echo "tests: $(tail -n 1 "$out/tests.txt")"
"$python" benchmarks/gpu.py "$out" --budget "${BUDGET:-200}" > "$out/benchmark.txt" 2>&1
echo "benchmark: $(tail -n 1 "$out/benchmark.txt")"
