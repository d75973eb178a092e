"""Who computes the scores: transformers, or another runtime that reads the same ids and is held against it."""

from components.score_pairs.config import ScorePairsConfig
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.scoring import PairScorer, Scorer


def open_scorer(config: ScorePairsConfig, model: str) -> PairScorer:
    """The configured engine with a model folder of this machine.

    Raises:
        InputError: when the engine is not installed, or cannot run such a model.
    """
    spec = folder.read_spec(folder.fetch(model))
    grader = spec.grader
    if bool(grader) != (config.engine == "endpoint"):
        remedy = "set endpoint" if grader else "give a folder whose relevance.json has a grader"
        raise InputError(f"key 'engine' = '{config.engine}': model '{model}' is {'' if grader else 'not '}asked over HTTP; {remedy}")
    if config.engine != "transformers" and spec.stages:
        raise InputError(f"key 'engine' = '{config.engine}': model '{model}' is asked in {len(spec.stages)} stages; set transformers")
    if grader:
        from components.score_pairs.endpoint_engine import EndpointScorer  # noqa: PLC0415

        return EndpointScorer(model)
    if config.engine in ("onnx", "openvino"):
        from components.score_pairs.onnx_engine import OnnxScorer  # noqa: PLC0415 - an optional runtime

        return OnnxScorer(model, engine=config.engine, batch_tokens=config.batch_tokens, num_threads=config.num_threads)
    if config.engine == "vllm":
        from components.score_pairs.vllm_engine import VllmScorer  # noqa: PLC0415

        return VllmScorer(model, precision=config.precision)
    method = "plain" if config.method == "auto" else config.method
    return Scorer(model, batch_tokens=config.batch_tokens, precision=config.precision, method=method, steps=config.steps)
