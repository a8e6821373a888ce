#!/bin/sh
# Fronts of error, size and time, and predicted beside measured errors, as benchmarks/contracts/ has
# them: sh benchmarks/contracts.sh MODELS SAMPLES
# MODELS holds minilm/minilm.onnx and codelm/prefill.onnx; SAMPLES the folders minilm/ and codelm/ of
# .npz files. About 15 minutes on two cores with nothing else running; artifacts go to a temporary folder.
set -eu
models=$1 samples=$2
here=$(cd "$(dirname "$0")" && pwd)
records=$here/contracts pictures=$here/../docs
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
mkdir -p "$records" "$pictures"

front() { # NAME MODEL BOUNDS
    tilewright pareto "$models/$2" --calibrate "$samples/$1" --bounds "$3" --typical batch=1 --typical seq=128 -o "$made/$1"
    cp "$made/$1/front.json" "$records/$1_front.json"
    cp "$made/$1/front.svg" "$pictures/$1_front.svg"
}

validate() { # NAME MODEL
    python -m tilewright.tools.validate_errors "$models/$2" --calibrate "$samples/$1" --plans 20 \
        --output "$records/$1_errors.json" || echo "$1: a prediction is off by more than 1.5"
}

front minilm minilm/minilm.onnx 0.001,0.005,0.01,0.02,0.05
front codelm codelm/prefill.onnx 0.002,0.01,0.03,0.1,0.2
validate minilm minilm/minilm.onnx
validate codelm codelm/prefill.onnx
