"""The teacher's network laid out without weights, from its config alone: what `python -m pipelines estimate` counts."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.cost import Estimate, Shape, estimate, measured_peak
from components.train_teacher.network import check_head, ready_to_learn


def estimate_of(settings: Any, config: TrainTeacherConfig, *, num_pairs: float, mean_tokens: float, peak: float) -> Estimate:
    """What training on `num_pairs` judged pairs will cost.

    Args:
        settings: the network's Hugging Face config; 7 billion weights take no memory here, only two of their layers are made.
        num_pairs: judgments of split train, of which `validation_share` is held out.
        mean_tokens: of a prompt. peak: FLOP/s of one device; 0 to measure this machine's CPUs.

    Raises:
        InputError: for a family that has no head for `form: head`.
    """
    made: Any = AutoModelForCausalLM
    if config.form == "head":
        check_head(settings)
        made = AutoModelForSequenceClassification
    with torch.device("meta"):
        network = ready_to_learn(made.from_config(settings), config)
    shape = Shape.of(network, settings, config)
    num_tokens = num_pairs * (1 - config.validation_share) * mean_tokens * config.num_epochs
    return estimate(
        shape, config, num_tokens=num_tokens, mean_tokens=mean_tokens, peak=peak or measured_peak(torch.device("cpu"), config.precision)
    )
