"""Fine-tuning itself, the same on one process and on many."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.models.batches import token_batches
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import pick_device, resolve_precision
from components.shared.tracking import Tracker
from components.shared.training import Checkpoints, Curve, EncodedApart, Stepper, fit
from components.train_teacher import targets
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Examples, Sources, Tables, identity_of, read_tables
from components.train_teacher.objective import Objective
from components.train_teacher.similarity import MARGIN_SCALE, SeparateReader, fit_grades

LORA_DROPOUT = 0.05


@dataclass(frozen=True)
class World:
    """The processes that train together. `wrap` turns a network into (what is called in the loss, how it is updated)."""

    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    wrap: Callable[[torch.nn.Module], tuple[torch.nn.Module, Stepper]] | None = None
    before_export: Callable[[], None] = lambda: None

    def share_of(self, batch: np.ndarray) -> tuple[np.ndarray, float]:
        """This process's part of a batch of rows, and the weight that makes the mean over processes the mean over the batch."""
        mine = batch[self.rank :: self.size]
        return mine if len(mine) else batch[:1], len(mine) * self.size / len(batch)


def teacher_spec(path: Path, config: TrainTeacherConfig, gains: list[float]) -> folder.ModelSpec:
    """What the trained folder will say of itself.

    Raises:
        InputError: when the encoder cannot read `max_tokens`, or is no encoder.
    """
    given = folder.read_spec(path)
    if given.kind not in ("encoder", "teacher"):
        raise InputError(f"encoder '{path}' is a {given.kind}; a teacher starts from an encoder (or from another teacher)")
    if config.reading == "separate" and given.kind != "encoder" and not given.offsets:
        raise InputError(f"key 'reading': '{path}' is a {given.kind} that reads jointly; set 'joint', or start from an encoder")
    limit = folder.AutoConfig.from_pretrained(path, trust_remote_code=False).max_position_embeddings
    if config.max_tokens > limit:
        raise InputError(f"key 'max_tokens' = {config.max_tokens}: the encoder '{path}' reads at most {limit} tokens; lower it")
    return folder.ModelSpec(
        "teacher",
        config.max_tokens,
        gains=targets.folded_gains(gains, config.folding),
        num_neighbors=config.num_neighbors,
        source=given.source,
    )


def build_network(path: Path, spec: folder.ModelSpec, config: TrainTeacherConfig) -> Any:
    """The classifier with a head drawn from `config.seed`, wrapped in LoRA adapters where asked for."""
    torch.manual_seed(config.seed)
    if config.reading == "separate":
        network = SeparateReader(folder.load_model(path, replace(spec, kind="encoder")))
    else:
        network = folder.load_model(path, spec)
    if config.activation_checkpointing:
        backbone: Any = getattr(network, "network", network)
        backbone.gradient_checkpointing_enable()
        backbone.enable_input_require_grads()
    if not config.lora_rank:
        return network
    from peft import LoraConfig, TaskType, get_peft_model  # noqa: PLC0415 - loads slowly and only LoRA needs it

    adapters = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=config.lora_rank,
        lora_alpha=2 * config.lora_rank,
        lora_dropout=LORA_DROPOUT,
        target_modules="all-linear",
    )
    # adapters in another dtype than the head break ZeRO-3's flat buffers (deepspeed#8072)
    return get_peft_model(network, adapters, autocast_adapter_dtype=False)


def fine_tune(
    config: TrainTeacherConfig, sources: Sources, model: str, tracker: Tracker, world: World, tables: Tables | None = None
) -> Curve:
    """Train and write the model folder `model` (by the first process); checkpoints go to `<model>-checkpoints`."""
    tables = tables or read_tables(sources, config)
    path = folder.fetch(sources.encoder)
    spec = teacher_spec(path, config, tables.card.gains())
    tokenizer = folder.load_tokenizer(path)
    examples = Examples.of(tables, spec, tokenizer, config)
    device = world.device or pick_device()
    network = build_network(path, spec, config).to(device)
    trained, stepper = world.wrap(network) if world.wrap else (network, None)
    objective = Objective(examples, spec.gains, config, device)

    def loss_of(called: torch.nn.Module, batch: np.ndarray) -> torch.Tensor:
        mine, weight = world.share_of(batch)
        return objective(called, mine) * weight

    curve = fit(
        trained, lambda epoch: examples.batches(epoch, config), loss_of,
        num_steps=sum(len(examples.batches(epoch, config)) for epoch in range(config.num_epochs)),
        learning_rate=config.learning_rate, warmup_share=config.warmup_share, weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm, precision=config.precision, seed=config.seed, tracker=tracker, log_steps=config.log_steps,
        checkpoints=Checkpoints(model + "-checkpoints", identity_of(sources, config), writes=world.rank == 0),
        checkpoint_steps=config.checkpoint_steps, stepper=stepper,
    )  # fmt: skip
    weights = stepper.tensors() if stepper else None
    if world.rank == 0:
        world.before_export()
        if isinstance(network, SeparateReader):
            spec = _with_grades(network, spec, tokenizer, tables, config)
        export(model, network if weights is None else _rebuilt(path, spec, config, weights), tokenizer, spec)
    return curve


def _with_grades(
    network: SeparateReader, spec: folder.ModelSpec, tokenizer: Any, tables: Tables, config: TrainTeacherConfig
) -> folder.ModelSpec:
    """The spec with grades fitted to the cosines of the held-out queries, which training has not pulled apart; else of all."""
    judged = tables.validation if len(tables.validation) else tables.training
    texts = EncodedApart.of(
        tokenizer, *model_texts(spec, judged, tables.queries, tables.items, tables.neighbors), max_tokens=spec.max_tokens
    )
    rows, device = np.arange(len(judged)), next(network.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=resolve_precision(config.precision) == "bf16"):
        parts = [rows[chosen] for chosen in token_batches(texts.lengths, config.batch_tokens)]
        cosines = torch.cat([network(**texts.batch(part, device)).logits[:, 0].float() for part in parts]).cpu().numpy() / MARGIN_SCALE
    grades = judged["grade"].to_numpy()[np.concatenate(parts)]
    slope, offsets = fit_grades(cosines.astype(np.float64), grades, len(spec.gains))
    return replace(spec, slope=slope, offsets=offsets)


def _rebuilt(path: Path, spec: folder.ModelSpec, config: TrainTeacherConfig, weights: dict[str, torch.Tensor]) -> Any:
    """The network again, whole and in this process, from the encoder and the trained weights that were gathered."""
    network = build_network(path, spec, config)
    named = dict(network.named_parameters())
    with torch.no_grad():
        for key, value in weights.items():
            if key.startswith("weights/"):
                named[key.removeprefix("weights/")].copy_(value)
    return network


def export(model: str, network: Any, tokenizer: Any, spec: folder.ModelSpec) -> None:
    """Write the model folder, with adapters merged into the weights."""
    network = getattr(network, "network", network) if spec.offsets else network
    whole = network.merge_and_unload() if hasattr(network, "merge_and_unload") else network
    folder.save(model, whole.cpu(), tokenizer, spec)
