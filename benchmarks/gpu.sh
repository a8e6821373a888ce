#!/bin/sh
# All figures of an NVIDIA GPU, in one call of under 10 minutes: sh benchmarks/gpu.sh [FOLDER]
# Needs what is installed by pip install ".[compiler,cuda]", and PyTorch with CUDA for the peers. Tables go to
# FOLDER/*.txt, whole models with the machine's description to FOLDER/models.json.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
records=${1:-$here/gpu}
mkdir -p "$records"

table() { # NAME MODULE ARGUMENTS...
    name=$1 module=$2
    shift 2
    python3 -m "tilewright.tools.$module" "$@" > "$records/$name.txt"
    cat "$records/$name.txt"
}

table models bench_gpu_models --peer-seconds 240 --output "$records/models.json"
table gemm_f16 bench_gpu_gemm --element f16 --each 12 --seconds 90
table gemm_f16_gelu bench_gpu_gemm --element f16 --gelu --each 6 --seconds 60
table weights bench_gpu_weights
table attention bench_gpu_attention
table regions bench_gpu_regions
