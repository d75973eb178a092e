"""A teacher that writes: a chain of steps (`shared/aspects.py`) and then the grade, whose distribution is read off the grades' tokens.

A prompt is a decoder's pair (`tokens.join_pairs`) and the task (`text.TASKS`), a reply is the chain; all are tokenised apart and joined as
ids, so that training and decoding see the same ids whatever the tokenizer would merge over a seam.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from components.shared.aspects import GRADE, Chain, MalformedChainError, parse_chain
from components.shared.errors import InputError
from components.shared.models.arithmetic import fast_float32
from components.shared.models.batches import token_batches
from components.shared.models.folder import ModelSpec
from components.shared.models.tokens import join_pairs, plain_ids
from components.shared.text import TASKS

logger = logging.getLogger(__name__)

AT_ONCE, REFLECT = "grade", "reflect"
UNFINISHED = "unfinished"


@dataclass(frozen=True)
class GradeTokens:
    """How a reply ends: the ids of `grade:`, then one id per grade."""

    prefix: list[int]
    grades: list[int]

    @staticmethod
    def of(tokenizer: Any, num_grades: int) -> "GradeTokens":
        """Raises InputError when the tokenizer has no single token for some grade: a distribution over grades could not be read."""
        for form in (" {}", "{}"):
            ids = plain_ids(tokenizer, [form.format(grade) for grade in range(num_grades)])
            if all(len(one) == 1 for one in ids) and len({one[0] for one in ids}) == num_grades:
                return GradeTokens(plain_ids(tokenizer, [GRADE])[0], [one[0] for one in ids])
        raise InputError(f"the tokenizer writes some of the grades 0 to {num_grades - 1} with several tokens; set form 'head'")


class Wording:
    """Prompts and replies as ids, the same for training and for scoring."""

    def __init__(self, tokenizer: Any, num_grades: int) -> None:
        self.tokenizer, self.num_grades = tokenizer, num_grades
        self.grade = GradeTokens.of(tokenizer, num_grades)
        self.padding = tokenizer.pad_token_id

    def task_ids(self, task: str, decision: int = 0) -> list[int]:
        """What is asked; `decision` is the wrong grade that task `reflect` looks back on."""
        return plain_ids(self.tokenizer, [TASKS[task].format(grade=decision)])[0]

    def step_ids(self, chains: Sequence[Chain]) -> list[list[int]]:
        """What is written before the grade."""
        texts = [Chain(one.steps, error=one.error).text() for one in chains]
        return plain_ids(self.tokenizer, [text + "\n" if text else "" for text in texts])

    def padded(self, rows: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
        """Arguments of a causal model, padded on the left: input_ids, attention_mask, position_ids [rows, longest]."""
        ids = np.full((len(rows), max(map(len, rows))), self.padding, np.int64)
        for place, row in enumerate(rows):
            ids[place, ids.shape[1] - len(row) :] = row
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = (torch.arange(ids.shape[1], device=device) >= ids.shape[1] - lengths[:, None]).long()
        return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


@dataclass(frozen=True)
class Written:
    """Logits of the grades [rows, grades] and the text before the grade [rows]; `malformed` counts chains by what is wrong with them."""

    logits: np.ndarray
    texts: list[str]
    malformed: Counter[str] = field(default_factory=Counter)

    def chains(self) -> list[Chain | None]:
        """The steps of each row; None for a chain that is malformed."""
        return [_read(text)[0] for text in self.texts]


class GenerativeGrader:
    """Writes greedily with a cache, in batches of similar lengths; then the grade's distribution is that of the grades' tokens alone.

    A row's logits do not depend on its batch beyond rounding (float32: 1e-5), as long as no two tokens of a step are as likely as each
    other to that precision. A chain that has not come to its grade after `spec.step_tokens` tokens, or that ends without, is cut there
    and asked for the grade all the same; it is counted as malformed.
    """

    def __init__(
        self, model: Any, tokenizer: Any, spec: ModelSpec, *, steps: bool = True, precision: str = "fp32", batch_tokens: int = 8192
    ) -> None:
        self.model = model.to(torch.bfloat16) if precision == "bf16" else model
        self.wording, self.spec, self.batch_tokens, self.device = Wording(tokenizer, len(spec.gains)), spec, batch_tokens, model.device
        self.task = spec.replies[0] if steps else AT_ONCE
        if self.task not in spec.replies:
            raise InputError(f"this teacher was not taught to give a grade at once, only {', '.join(spec.replies)}; set steps true")

    def write(self, left: Sequence[str], right: Sequence[str], *, task: str = "", decisions: np.ndarray | None = None) -> Written:
        """Reply to each pair.

        Args:
            task: one of `spec.replies`; the one that the teacher scores by where empty.
            decisions: the wrong grades [rows] that task `reflect` looks back on.
        """
        task = task or self.task
        pairs = join_pairs(self.wording.tokenizer, left, right, self.spec.max_tokens)
        asked = [self.wording.task_ids(task, grade) for grade in range(self.wording.num_grades)]
        prompts = [pairs.row(row) + asked[0 if decisions is None else decisions[row]] for row in range(len(pairs.items))]
        limit = 0 if task == AT_ONCE else self.spec.step_tokens
        logits, written = np.zeros((len(prompts), len(self.spec.gains)), np.float32), [[] for _ in prompts]
        lengths = np.fromiter(map(len, prompts), np.int64, len(prompts)) + limit + len(self.wording.grade.prefix)
        with torch.inference_mode(), fast_float32():
            for rows in token_batches(lengths, self.batch_tokens):
                logits[rows], ids = self._write_batch([prompts[row] for row in rows], limit)
                for row, one in zip(rows, ids, strict=True):
                    written[row] = one
        texts = [self.wording.tokenizer.decode(ids, skip_special_tokens=True) for ids in written]
        malformed = Counter(reason for reason in (_read(text)[1] for text in texts) if reason) if limit else Counter()
        if malformed:
            told = ", ".join(f"{reason} {count}" for reason, count in malformed.most_common())
            logger.warning("%d of %d chains are malformed (%s); their grades count all the same", malformed.total(), len(texts), told)
        return Written(logits, texts, malformed)

    def _write_batch(self, prompts: list[list[int]], limit: int) -> tuple[np.ndarray, list[list[int]]]:
        """(logits of the grades [rows, grades], ids before `grade:` of each row)."""
        prefix, grades = self.wording.grade.prefix, self.wording.grade.grades
        end = self.wording.tokenizer.eos_token_id
        if not limit:
            prompts = [one + prefix for one in prompts]
        batch = self.wording.padded(prompts, self.device)
        cache = DynamicCache(config=self.model.config)
        logits = self._next(batch, cache)
        if not limit:
            return logits[:, grades].cpu().numpy(), [[] for _ in prompts]
        mask, position = batch["attention_mask"], batch["position_ids"][:, -1:]
        wanted, size = torch.tensor(prefix, device=self.device), len(prefix)
        out = torch.zeros(len(prompts), len(grades), device=self.device)
        written = torch.full((len(prompts), size), -1, device=self.device)  # begins with no tokens, so that it always has an end to look at
        forced = torch.full((len(prompts),), -1, device=self.device)  # how much of the prefix was written for the row; -1 where it writes
        length = forced.clone()  # of what was written before the grade; -1 as long as it has not come to it
        for step in range(limit + size):
            token = logits.argmax(-1)
            forced = torch.where((length < 0) & (forced < 0) & ((token == end) | (step >= limit)), 0, forced)
            token = torch.where(forced >= 0, wanted[forced.clamp(0, size - 1)], token)
            forced = forced + (forced >= 0).long()
            written = torch.cat([written, token[:, None]], 1)
            mask, position = torch.nn.functional.pad(mask, (0, 1), value=1), position + 1
            logits = self._next({"input_ids": token[:, None], "attention_mask": mask, "position_ids": position}, cache)
            reached = (length < 0) & (written[:, -size:] == wanted).all(1)
            out[reached], length = logits[reached][:, grades], torch.where(reached, step + 1 - size, length)
            if bool((length >= 0).all()):
                break
        return out.cpu().numpy(), [ids[size : size + steps] for ids, steps in zip(written.tolist(), length.tolist(), strict=True)]

    def _next(self, batch: dict[str, torch.Tensor], cache: DynamicCache) -> torch.Tensor:
        """Logits of what follows [rows, words], float32."""
        return self.model(**batch, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()


def _read(text: str) -> tuple[Chain | None, str]:
    """The steps of a text, or why there are none."""
    if text and not text.endswith("\n"):
        return None, UNFINISHED
    try:
        return parse_chain(text), ""
    except MalformedChainError as error:
        return None, error.reason
