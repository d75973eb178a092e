"""What a training costs, counted before it starts: arithmetic, memory and time."""

import copy
import logging
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_MAPPING

from components.shared.models.arithmetic import resolve_precision
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.network import ready_to_learn

logger = logging.getLogger(__name__)

GEMM_SIDE = {"cpu": 1024, "cuda": 8192}
GEMM_ROUNDS = 4
USUAL_UTILISATION = 0.35  # of the peak; what well-kept trainers reach on long prompts (PaLM, arXiv 2204.02311, table 3: 21 to 46 %)
MOMENT_BYTES, MASTER_BYTES = 8, 4
LOOKED_AT_TOKENS = 32
WORD_BYTES = 16  # of a word of the vocabulary at a token: log-probability, its gradient, the logit's and the grade's, all float32
GRADE_TOKENS = 3  # `grade`, `:` and the grade


@dataclass(frozen=True)
class Shape:
    """Sizes of a network. `multiplied` leaves out embeddings, which are looked up; `kept_bytes` is what one layer keeps of one token for
    the backward pass, and `input_bytes` what checkpointing keeps instead; `reply_bytes` is what the loss of a reply holds, at its most."""

    parameters: int
    trained: int
    multiplied: int
    layers: int
    hidden: int
    kept_bytes: float
    input_bytes: int
    reply_bytes: float = 0.0

    @staticmethod
    def of(network: torch.nn.Module, settings: Any, config: TrainTeacherConfig) -> "Shape":
        """Args: settings: the network's Hugging Face config."""
        text = settings.get_text_config()  # of a network that reads pictures too: the part that reads texts
        looked_up = {id(module.weight) for module in network.modules() if isinstance(module, torch.nn.Embedding)}
        sizes = [  # ZeRO-3 leaves an empty tensor in place of a weight that is shared out, and its size in ds_numel
            (getattr(value, "ds_numel", value.numel()), value.requires_grad, id(value) in looked_up) for value in network.parameters()
        ]
        half = resolve_precision(config.precision) == "bf16"
        learns_in_float32 = not config.distributed() and not config.lora_rank
        return Shape(
            parameters=sum(size for size, _, _ in sizes),
            trained=sum(size for size, trained, _ in sizes if trained),
            multiplied=sum(size for size, _, is_looked_up in sizes if not is_looked_up),
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            kept_bytes=kept_bytes_of(settings, config, half=half),
            input_bytes=text.hidden_size * (2 if half and not learns_in_float32 else 4),
            reply_bytes=WORD_BYTES * text.vocab_size * _reply_tokens(config),
        )

    def flops_per_token(self, mean_tokens: float) -> float:
        """Of forward and backward pass: 2 per weight forward, 2 for the inputs' gradients and 2 per trained weight, plus attention over
        `mean_tokens` (PaLM, arXiv 2204.02311, appendix B). What checkpointing computes twice is not counted, so shares of the peak are
        model FLOPs utilisation."""
        trained = min(self.trained, self.multiplied)
        return 4 * self.multiplied + 2 * trained + 12 * self.layers * self.hidden * mean_tokens


@dataclass(frozen=True)
class Estimate:
    """Of one training: memory of one device in bytes, tokens of the whole, FLOPs of one token, peak in FLOP/s of one device.

    `gathered` is main memory, which the first of several processes needs while it writes a checkpoint or the model.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    num_tokens: float
    flops_per_token: float
    num_devices: int
    peak: float
    gathered: float = 0.0

    @property
    def memory(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations

    @property
    def hours(self) -> float:
        """At USUAL_UTILISATION of the peak of all devices."""
        return self.num_tokens * self.flops_per_token / (self.peak * self.num_devices * USUAL_UTILISATION) / 3600

    def utilisation(self, tokens_per_second: float) -> float:
        """Share of the devices' peak that was useful work."""
        return tokens_per_second * self.flops_per_token / (self.peak * self.num_devices)

    def sentence(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer, "activations": self.activations}
        memory = ", ".join(f"{name} {_size(value)}" for name, value in parts.items())
        time_left = f"{self.hours:.1f} h" if self.hours >= 1 else f"{max(1, math.ceil(self.hours * 60))} min"
        gathered = f", {_size(self.gathered)} of main memory for the process that writes" if self.gathered else ""
        return (
            f"estimate: {_size(self.memory)} a device ({memory}){gathered}, {self.num_tokens / 1e6:.3g} M tokens, "
            f"{time_left} on {self.num_devices} at {USUAL_UTILISATION:.0%} of {self.peak / 1e12:.3g} TFLOP/s"
        )


def estimate(shape: Shape, config: TrainTeacherConfig, *, num_tokens: float, mean_tokens: float, peak: float) -> Estimate:
    """Memory follows ZeRO (arXiv 1910.02054, section 3): each stage shares out one more of optimizer state, gradients and weights.

    One process keeps float32 weights where they are trained and bf16 copies while autocast runs; DeepSpeed keeps bf16 weights and a
    float32 master in the optimizer. Activations are of a batch of `batch_tokens`, or of `batch_size` mean prompts. Of a teacher that writes
    they include the loss, which is gone before checkpointing computes a layer again. Preference tuning keeps those of two batches.
    """
    half = resolve_precision(config.precision) == "bf16"
    number, frozen = (2 if half else 4), shape.parameters - shape.trained
    devices, stage = config.world_size(), max(1, config.zero_stage)
    share, gathered = [1.0] * 3, 0.0
    if config.distributed():
        at_checkpoint = (MOMENT_BYTES + MASTER_BYTES) * shape.trained if config.checkpoint_steps else 0
        gathered = max(at_checkpoint, MASTER_BYTES * (shape.trained + shape.parameters))  # at the end the network is made again, whole
        share = [1 / devices if stage >= at else 1.0 for at in (1, 2, 3)]  # optimizer state, gradients, weights
        weights, gradients = number * shape.parameters, number * shape.trained
        optimizer = (MOMENT_BYTES + MASTER_BYTES) * shape.trained
    else:
        weights = number * frozen + (4 + 2 * half) * shape.trained
        gradients, optimizer = 4 * shape.trained, MOMENT_BYTES * shape.trained
    tokens = config.batch_size * mean_tokens if config.batch_size else config.batch_tokens
    layers = shape.layers * (shape.input_bytes if config.activation_checkpointing else shape.kept_bytes) * tokens
    again = shape.kept_bytes * tokens if config.activation_checkpointing else 0
    batches = 2 if config.preference_epochs and config.preference_weight < 1 else 1
    activations = batches * (layers + max(again, shape.reply_bytes * tokens / mean_tokens)) / devices
    return Estimate(
        weights * share[2], gradients * share[1], optimizer * share[0], activations,
        num_tokens, shape.flops_per_token(mean_tokens), devices, peak, gathered,
    )  # fmt: skip


def _reply_tokens(config: TrainTeacherConfig) -> int:
    """Tokens of which the loss asks for the next word, at most; a head asks for none."""
    return (config.step_tokens if config.reasoning else 0) + GRADE_TOKENS if config.form == "generative" else 0


def kept_bytes_of(settings: Any, config: TrainTeacherConfig, *, half: bool) -> float:
    """Bytes that one layer keeps of one token for the backward pass, by looking: forward passes of one and two layers, on two lengths.

    What does not grow with layers and tokens (weights, embeddings, the head) falls out of the differences. 0, with a warning, for a family
    that cannot be cut to so few layers: no training is stopped for want of an estimate.
    """
    plain = config.model_copy(update={"activation_checkpointing": False})
    try:
        found = {layers: _kept_bytes(settings, layers, plain, half=half) for layers in (1, 2)}
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        logger.warning("activations of a %s cannot be estimated, so they are left out (%s)", settings.model_type, type(error).__name__)
        return 0.0
    return max(0.0, found[2] - found[1])


def _kept_bytes(settings: Any, layers: int, config: TrainTeacherConfig, *, half: bool) -> float:
    """Bytes a token that autograd saves in a network of `layers` layers."""
    small = copy.deepcopy(settings)
    text = small.get_text_config()
    text.num_hidden_layers, text.vocab_size, text.pad_token_id = layers, 2, 0
    if getattr(text, "layer_types", None):
        text.layer_types = (text.layer_types * 2)[:layers]  # of one layer, too
    dtype = torch.bfloat16 if half and config.distributed() else torch.float32
    heads = (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING)
    made: Any = next((one for one in heads if type(small) in one), MODEL_MAPPING)[type(small)]
    network = ready_to_learn(made(small).to(dtype), config).train()
    most = min(LOOKED_AT_TOKENS, config.max_tokens)
    lengths, sizes = (most // 2, most), []
    for num_tokens in lengths:
        saved: dict[int, torch.Tensor] = {}

        def keep(value: torch.Tensor, saved: dict[int, torch.Tensor] = saved) -> torch.Tensor:
            saved[value.untyped_storage().data_ptr()] = value
            return value

        ids = torch.ones(1, num_tokens, dtype=torch.long)
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=half and dtype == torch.float32)
        with autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            network(input_ids=ids, attention_mask=torch.ones_like(ids))
        sizes.append(sum(value.untyped_storage().nbytes() for value in saved.values()))
    return (sizes[1] - sizes[0]) / (lengths[1] - lengths[0])


def measured_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product on `device`: the best of a few, which take well under a second."""
    side = GEMM_SIDE[device.type]
    dtype = torch.bfloat16 if resolve_precision(precision) == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = math.inf
    for _ in range(GEMM_ROUNDS):
        _wait(device)
        started = time.perf_counter()
        torch.matmul(left, right)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def device_memory(device: torch.device) -> int:
    """Bytes of the device; 0 where that says nothing, as on CPUs."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _size(value: float) -> str:
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
