"""The optimisation loop that teacher and students share: AdamW with warm-up, bf16 on demand, checkpoints a killed run goes on from.

A run that was killed and resumed follows the same loss curve as one that was not: every step seeds torch from (seed, step), the
learning rate is a function of the step, and a checkpoint holds weights and optimizer state in float32 (safetensors, never pickle).
"""

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models.arithmetic import resolve_precision
from components.shared.models.batches import similar_batches, token_batches
from components.shared.models.tokens import encode_rows
from components.shared.tracking import NullTracker, Tracker

logger = logging.getLogger(__name__)

POOL_BATCHES = 32  # batches whose rows are sorted by length together: little padding, still mixed every epoch
KEPT_CHECKPOINTS = 2
TENSORS = "tensors.safetensors"


@dataclass(frozen=True)
class Encoded:
    """Tokenised rows, padded only when a batch is made. `lengths` [rows] in tokens."""

    tokenizer: Any
    columns: dict[str, list[list[int]]]
    lengths: np.ndarray

    @staticmethod
    def of(tokenizer: Any, *texts: list[str], max_tokens: int, decoder: bool = False) -> "Encoded":
        """One column of texts, or two that are read jointly, as `models.scoring` reads them."""
        encoded = encode_rows(tokenizer, *texts, max_tokens=max_tokens, decoder=decoder)
        lengths = np.fromiter(map(len, encoded["input_ids"]), np.int64, len(texts[0]))
        return Encoded(tokenizer, encoded, lengths)

    def batch(self, rows: Iterable[int], device: torch.device | str = "cpu") -> Any:
        """Tensors [rows, longest of them] for `model(**batch)`."""
        chosen = list(rows)
        piece = {name: [column[row] for row in chosen] for name, column in self.columns.items()}
        return self.tokenizer.pad(piece, return_tensors="pt").to(device)

    def passes(self, rows: np.ndarray) -> list[np.ndarray]:
        """`rows` in parts of similar length."""
        return [rows[part] for part in similar_batches(self.lengths[rows])]


@dataclass(frozen=True)
class EncodedApart:
    """Pairs whose two texts are read separately: each distinct text is tokenised once, and read once per batch.

    `left` and `right` [rows] are numbers of rows of `tokens`; `lengths` [rows] counts the tokens of both texts.
    """

    tokens: Encoded
    left: np.ndarray
    right: np.ndarray

    @staticmethod
    def of(tokenizer: Any, left: list[str], right: list[str], *, max_tokens: int) -> "EncodedApart":
        distinct, number = np.unique(np.asarray([*left, *right], dtype=object).astype(str), return_inverse=True)
        return EncodedApart(Encoded.of(tokenizer, distinct.tolist(), max_tokens=max_tokens), number[: len(left)], number[len(left) :])

    @property
    def lengths(self) -> np.ndarray:
        return self.tokens.lengths[self.left] + self.tokens.lengths[self.right]

    def distinct(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows of `tokens` that `rows` need, and the place among them of each row's left and right text)."""
        texts, place = np.unique(np.concatenate([self.left[rows], self.right[rows]]), return_inverse=True)
        return texts, place[: len(rows)], place[len(rows) :]

    def passes(self, rows: np.ndarray) -> list[np.ndarray]:
        """The distinct texts that `rows` need, as rows of `tokens`, in parts of similar length."""
        return self.tokens.passes(self.distinct(rows)[0])

    def batch(self, rows: np.ndarray, device: torch.device | str = "cpu") -> dict[str, Any]:
        """What a model that reads separately takes: `texts`, tensors of each pass, and `left` and `right` places among them [rows]."""
        _, left, right = self.distinct(rows)
        parts = self.passes(rows)
        place = torch.from_numpy(np.argsort(np.concatenate(parts)))  # distinct texts are sorted by number
        texts = [self.tokens.batch(part.tolist(), device) for part in parts]
        return {"texts": texts, "left": place[left].to(device), "right": place[right].to(device)}


def shuffled_batches(lengths: np.ndarray, rng: np.random.Generator, *, batch_size: int = 0, batch_tokens: int = 0) -> list[np.ndarray]:
    """Every row once, in batches of similar length, in random order.

    Args:
        lengths: tokens of each row [rows].
        batch_size: rows of a batch, or 0 to use `batch_tokens`.
        batch_tokens: rows x longest row of a batch, padding included.
    """
    if not len(lengths):
        return []
    rows_each = batch_size or max(1, int(batch_tokens / max(1.0, float(lengths.mean()))))
    shuffled = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(shuffled), rows_each * POOL_BATCHES):
        pool = shuffled[start : start + rows_each * POOL_BATCHES]
        if batch_size:
            pool = pool[np.argsort(-lengths[pool], kind="stable")]
            batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
        else:
            batches += [pool[rows] for rows in token_batches(lengths[pool], batch_tokens)]
    return [batches[at] for at in rng.permutation(len(batches))]


def learning_rate_at(step: int, num_steps: int, peak: float, warmup_share: float) -> float:
    """Linear warm-up to `peak` over the first `warmup_share` of the steps, then linear decay to 0; `step` counts from 1."""
    warmup = max(1, round(num_steps * warmup_share))
    return peak * min(step / warmup, (num_steps - step + 1) / max(1, num_steps - warmup + 1))


class Stepper(Protocol):
    """How one loss changes the weights; plain AdamW here, DeepSpeed in the teacher's trainer."""

    @abstractmethod
    def step(self, loss: torch.Tensor, learning_rate: float) -> tuple[float, float]:
        """Backward pass and update; returns (loss over all processes, gradient norm), and updates nothing unless both are finite."""
        ...

    @abstractmethod
    def tensors(self, *, moments: bool = True) -> dict[str, torch.Tensor]:
        """Trainable weights (`weights/<name>`) and, with `moments`, optimizer state (`<state>/<name>`); of several processes the one that
        writes checkpoints gets them."""
        ...

    @abstractmethod
    def restore(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        """Put a checkpoint's tensors back."""
        ...


class AdamWStepper:
    """AdamW on one device; biases and norms are not decayed."""

    def __init__(self, model: torch.nn.Module, *, weight_decay: float, max_grad_norm: float) -> None:
        self.named = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.optimizer = torch.optim.AdamW(decay_groups(self.named, weight_decay), lr=0.0, fused=True)
        self.max_grad_norm = max_grad_norm

    def step(self, loss: torch.Tensor, learning_rate: float) -> tuple[float, float]:
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.named.values(), self.max_grad_norm))
        value = float(loss.detach())
        if math.isfinite(value) and math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value, norm

    def tensors(self, *, moments: bool = True) -> dict[str, torch.Tensor]:
        kept = {f"weights/{name}": value.detach() for name, value in self.named.items()}
        for name, value in self.named.items() if moments else ():
            kept |= {f"{key}/{name}": state for key, state in self.optimizer.state[value].items() if key != "step"}
        return {key: value.float().cpu().contiguous() for key, value in kept.items()}

    def restore(self, tensors: dict[str, torch.Tensor], step: int) -> None:
        for name, value in self.named.items():
            value.data.copy_(tensors[f"weights/{name}"])
            if f"exp_avg/{name}" in tensors:
                state = {key: tensors[f"{key}/{name}"].to(value.device, value.dtype) for key in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[value] = {**state, "step": torch.tensor(float(step), device=value.device)}


def decay_groups(named: dict[str, torch.nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: matrices, which are decayed, and vectors, which are not."""
    matrices = [value for value in named.values() if value.ndim > 1]
    vectors = [value for value in named.values() if value.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


@dataclass
class Curve:
    """What a fit did: loss of every step, pairs and tokens shown and seconds spent (over all its lives); `padding_share` of computed
    positions, where who fits knows it."""

    losses: list[float] = field(default_factory=list)
    num_pairs: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    epoch: int = 0
    position: int = 0
    padding_share: float | None = None

    def pairs_per_second(self) -> float:
        return self.num_pairs / max(self.seconds, 1e-9)

    def tokens_per_second(self) -> float:
        return self.num_tokens / max(self.seconds, 1e-9)

    def metrics(self, window: int = 20) -> dict[str, float]:
        """Final loss (mean of the last `window` steps), steps, pairs, seconds, pairs per second; tokens and padding where known."""
        last = float(np.mean(self.losses[-window:])) if self.losses else 0.0
        found = {"loss.last": last, "num_steps": len(self.losses), "num_pairs": self.num_pairs, "training_seconds": self.seconds,
                 "pairs_per_second": self.pairs_per_second()}  # fmt: skip
        tokens = {"num_tokens": self.num_tokens, "tokens_per_second": self.tokens_per_second()}
        padding = {} if self.padding_share is None else {"padding_share": self.padding_share}
        return found | (tokens if self.num_tokens else {}) | padding


class Checkpoints:
    """Complete checkpoints below a folder: `step-<n>/tensors.safetensors`, then `state.json`, which makes it complete.

    The newest KEPT_CHECKPOINTS of `identity` are kept; the first that is saved removes those of other settings or inputs. Of several
    processes one `writes`, and it alone reads tensors, which may fill the machine's memory; all read where it stands.
    """

    def __init__(self, uri: str, identity: str = "", *, writes: bool = True) -> None:
        self.uri, self.identity, self.writes = uri, identity, writes

    def save(self, curve: Curve, tensors: dict[str, torch.Tensor]) -> None:
        if not self.writes:
            return
        folder = storage.join(self.uri, f"step-{len(curve.losses):08d}")
        storage.remove(storage.join(folder, "state.json"))  # of another identity, whose state would make these tensors its own
        with TemporaryDirectory(prefix="checkpoint-") as scratch:  # in memory it would be there twice
            save_tensors(tensors, file := Path(scratch) / TENSORS)
            storage.upload(file, storage.join(folder, TENSORS))
        storage.write_json(storage.join(folder, "state.json"), {"identity": self.identity, "curve": vars(curve)})
        found = self._complete()
        kept = [one for one in found if self._state(one)["identity"] == self.identity][-KEPT_CHECKPOINTS:]
        for old in set(found).difference(kept):
            storage.remove(storage.join(old, "state.json"))
            storage.remove(old)

    def newest(self) -> tuple[Curve, dict[str, torch.Tensor]] | None:
        """The newest complete checkpoint of the same identity; one that was written under other settings is not used."""
        for folder in reversed(self._complete() if self.uri else []):
            state = self._state(folder)
            if state["identity"] == self.identity:
                return Curve(**state["curve"]), self._tensors(folder) if self.writes else {}
            logger.warning("checkpoint %s was written under other settings or inputs and is not used", folder)
        return None

    def _tensors(self, folder: str) -> dict[str, torch.Tensor]:
        with storage.downloaded(storage.join(folder, TENSORS)) as file:
            return load_tensors(file)

    def _state(self, folder: str) -> dict[str, Any]:
        return storage.read_json(storage.join(folder, "state.json"))

    def _complete(self) -> list[str]:
        files = storage.list_files(self.uri) if storage.exists(self.uri) else []
        return [file.removesuffix("/state.json") for file in files if file.endswith("/state.json")]


def fit(
    model: torch.nn.Module,
    batches_of_epoch: Callable[[int], Iterable[Any]],
    loss_of: Callable[[torch.nn.Module, Any], torch.Tensor],
    *,
    num_steps: int,
    learning_rate: float,
    warmup_share: float = 0.1,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    precision: str = "fp32",
    seed: int = 0,
    size_of: Callable[[Any], int] = len,
    tokens_of: Callable[[Any], int] | None = None,
    utilisation: Callable[[float], float] | None = None,
    tracker: Tracker | None = None,
    log_steps: int = 20,
    on_step: Callable[[int], None] | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_steps: int = 0,
    stepper: Stepper | None = None,
) -> Curve:
    """Train `model` in place for `num_steps` steps and leave it in evaluation mode.

    Args:
        batches_of_epoch: epoch number (from 0) -> its batches; the same number must give the same batches. Rows rather than tensors
            make skipping on resume cheap.
        loss_of: (model, batch) -> mean loss of the batch; called under autocast when `precision` is bf16.
        size_of, tokens_of: pairs and tokens in a batch, for the speeds that are logged.
        utilisation: tokens/s -> share of the hardware's peak, logged beside them.
        on_step: called with the number of steps done, after the checkpoint of that step.
        checkpoints: where to resume from and, every `checkpoint_steps` steps (0: never), save to.

    Raises:
        InputError: when there are no batches, or at the first loss or gradient that is not finite; weights stay as they were before.
    """
    stepper = stepper or AdamWStepper(model, weight_decay=weight_decay, max_grad_norm=max_grad_norm)
    checkpoints = checkpoints or Checkpoints("")
    curve = _resume(stepper, checkpoints, num_steps)
    progress = _Progress(tracker or NullTracker(), curve, num_steps, log_steps, utilisation)
    autocast = torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled=resolve_precision(precision) == "bf16")
    model.train()
    for batch in _batches(batches_of_epoch, curve, num_steps - len(curve.losses)):
        step = len(curve.losses) + 1
        torch.manual_seed((seed * 1_000_003 + step) % 2**63)
        with autocast:
            loss = loss_of(model, batch)
        rate = learning_rate_at(step, num_steps, learning_rate, warmup_share)
        value, norm = stepper.step(loss, rate)
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise InputError(
                f"training stopped at step {step} of {num_steps}: loss {value}, gradient norm {norm}; lower learning_rate "
                f"(now {learning_rate:g}) or use precision fp32; the last checkpoint is unharmed"
            )
        progress.add(value, norm, size_of(batch), tokens_of(batch) if tokens_of else 0, rate)
        if checkpoints.uri and checkpoint_steps and step % checkpoint_steps == 0 and step < num_steps:
            checkpoints.save(curve, stepper.tensors())
        if on_step:
            on_step(step)
    model.eval()
    return curve


def _resume(stepper: Stepper, checkpoints: Checkpoints, num_steps: int) -> Curve:
    found = checkpoints.newest()
    if found is None:
        return Curve()
    curve, tensors = found
    stepper.restore(tensors, len(curve.losses))
    logger.info("resumed at step %d of %d from %s", len(curve.losses), num_steps, checkpoints.uri)
    return curve


def _batches(batches_of_epoch: Callable[[int], Iterable[Any]], curve: Curve, wanted: int) -> Iterable[Any]:
    """`wanted` more batches from where `curve` stands, which is moved along."""
    for epoch in count(curve.epoch):
        empty = True
        for batch in islice(batches_of_epoch(epoch), curve.position, None):
            if wanted <= 0:
                return
            curve.position, wanted, empty = curve.position + 1, wanted - 1, False
            yield batch
        if wanted <= 0:
            return
        if empty and not curve.position:
            raise InputError(f"epoch {epoch} has no batches, nothing to train on; check that there are rows with split 'train'")
        curve.epoch, curve.position = epoch + 1, 0


class _Progress:
    """Keeps the curve and tells it: to the tracker as metrics, to the log with speed and the time that is left."""

    def __init__(
        self, tracker: Tracker, curve: Curve, num_steps: int, log_steps: int, utilisation: Callable[[float], float] | None
    ) -> None:
        self.tracker, self.curve, self.num_steps, self.log_steps = tracker, curve, num_steps, max(1, log_steps)
        self.utilisation = utilisation
        self.clock = time.monotonic()

    def add(self, loss: float, norm: float, num_pairs: int, num_tokens: int, rate: float) -> None:
        curve, now = self.curve, time.monotonic()
        curve.losses.append(loss)
        curve.num_pairs += num_pairs
        curve.num_tokens += num_tokens
        curve.seconds += now - self.clock
        self.clock = now
        step = len(curve.losses)
        if step % self.log_steps and step != self.num_steps:
            return
        mean = float(np.mean(curve.losses[-self.log_steps :]))
        values = {"loss": mean, "learning_rate": rate, "gradient_norm": norm, "pairs_per_second": curve.pairs_per_second()}
        if curve.num_tokens:
            values["tokens_per_second"] = curve.tokens_per_second()
        if curve.num_tokens and self.utilisation:
            values["utilisation"] = self.utilisation(curve.tokens_per_second())
        self.tracker.metrics(values, step=step)
        left = curve.seconds / step * (self.num_steps - step)
        logger.info("step %d/%d loss %.4f, %.0f pairs/s, %.0f s left", step, self.num_steps, mean, curve.pairs_per_second(), left)
