"""vLLM's side of benchmarks/score_decoder.py: reads `pairs.json` of a folder once, then scores them for every line on its input.

  PYTHON_OF_VLLM benchmarks/peers/score_vllm.py FOLDER DTYPE     # answers each line with {"seconds": s}; logits in FOLDER/DTYPE.json

Prompts in order of their prefixes, prefix caching on with blocks of 32 tokens (the default block is twice as slow), cache emptied between
rounds. `logits` are raw: use_activation=False.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}

from vllm import LLM, PoolingParams, TokensPrompt


def main(folder: Path, dtype: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints to standard output too
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in json.loads((folder / "pairs.json").read_text())]
    model = LLM(
        str(folder / "model"), runner="pooling", dtype=dtype, enable_prefix_caching=True, block_size=32, max_model_len=512,
        max_num_batched_tokens=4096, enforce_eager=True,
    )  # fmt: skip
    for line in sys.stdin:
        model.reset_prefix_cache()
        chosen = prompts[: int(line)]
        started = time.perf_counter()
        out = model.encode(chosen, pooling_params=PoolingParams(use_activation=False), pooling_task="classify", use_tqdm=False)
        seconds = time.perf_counter() - started
        (folder / f"{dtype}.json").write_text(json.dumps([one.outputs.data.float().tolist() for one in out]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answers.write(json.dumps({"seconds": seconds, "peak_rss_mib": peak}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
