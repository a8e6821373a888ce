#!/bin/sh
# All figures of an NVIDIA GPU, in one call of under 10 minutes: sh benchmarks/gpu.sh [FOLDER] [SECONDS]
# Needs what is installed by pip install ".[compiler,cuda]", and PyTorch with CUDA for the peers. Every stage is a
# process with a limit, its lines are in FOLDER/STAGE.txt as they are printed, and results are checked before they are
# timed. Seconds by estimate on an H200 with 16 cores (limits in tools/bench_gpu.py):
#
#   models          215  artifacts and torch.compile max-autotune, two at a time, 150; then 10 models, 6 each
#   gemm_f16         70  60 shapes, 12 a bucket of M N K, beside cuBLAS
#   gemm_f16_gelu    50  30 shapes with bias and GELU, beside cuBLAS and one kernel of torch.compile
#   weights          35  W4A16 with f32 and bf16 between kernels, and f16, M in 1, 8, 16, 64, beside cuBLAS f16
#   attention        30  25 shapes beside flash, cuDNN and the memory-efficient one
#   regions          20  34 beside PyTorch
#   sparse           25  2:4 weights in bf16, 40 shapes, beside cuBLAS with all weights
#   bitmaps          15  zeros anywhere in bf16, 15 shapes, beside cuBLAS with all weights
#
# Kernels of all stages are compiled beside the models (150 s of one core). summary.txt is the table of what ended.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
records=${1:-$here/gpu}
mkdir -p "$records"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TORCHINDUCTOR_CACHE_DIR="$work/inductor" TRITON_CACHE_DIR="$work/triton"
timeout -k 5 "$((${2:-570} + 15))" python3 -m tilewright.tools.bench_gpu "$records" --seconds "${2:-570}" --work "$work"
