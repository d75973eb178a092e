"""What a generative teacher learns to write: the grade at once, and up to three kinds of reasoning before it (LREF, arXiv 2503.09223).

`explain` writes the sub-judgments of a pair and then the grade, `rules` does so along written rules, `reflect` is shown a wrong decision,
says in which direction it errs, and comes to the right grade. Each pair is shown once an epoch, with a task drawn anew.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from components.shared.aspects import ERRORS, Chain, Step, verdict_numbers
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec
from components.shared.models.generative import AT_ONCE, REFLECT, Wording
from components.shared.rule_annotator import RuleAnnotator
from components.shared.schema import ASPECTS, VERDICTS
from components.shared.tables import read_table
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Examples, Tables

logger = logging.getLogger(__name__)


def verdicts_of(tables: Tables, config: TrainTeacherConfig) -> np.ndarray:
    """Number of the verdict on each aspect of each training pair [pairs, aspects], -1 where there is none.

    They come from table `sub_judgments`, or are made by rules where none is configured. Cited words are left out: a teacher that writes
    every span twice is slow, and students learn from the verdicts.

    Raises:
        InputError: when the table has none for these pairs.
    """
    pairs = tables.training
    if config.sub_judgments:
        found = read_table(config.sub_judgments, "sub_judgments")
    else:
        found = RuleAnnotator(tables.queries, tables.items, pairs).annotate(pairs)
    numbers = verdict_numbers(found, pairs)
    without = int((numbers < 0).all(axis=1).sum())
    if without == len(pairs):
        raise InputError(f"key 'sub_judgments' = '{config.sub_judgments}': none for the {without} training pairs; annotate these pairs")
    logger.info("%d of %d training pairs have sub-judgments; the others are taught the grade alone", len(pairs) - without, len(pairs))
    return numbers


@dataclass(frozen=True)
class Lessons:
    """Prompts with their replies as ids: number `task * len(prompts) + row` is prompt `row` with that task.

    Attributes:
        prompts: of every variant of every pair [rows]; row r is of pair `r % pairs`.
        asked: ids of each task [tasks].
        replies: distinct ids that stand before `grade:`; `reply` is their number [tasks, pairs].
    """

    wording: Wording
    prompts: list[list[int]]
    asked: list[list[int]]
    replies: list[list[int]]
    reply: np.ndarray
    grades: np.ndarray
    lengths: np.ndarray

    @staticmethod
    def of(wording: Wording, prompts: list[list[int]], tasks: list[tuple[str, int]], verdicts: np.ndarray, grades: np.ndarray) -> "Lessons":
        """Args: tasks: name, and the decision that `reflect` is shown; verdicts: [pairs, aspects]; grades: [pairs]."""
        distinct, number = np.unique(verdicts, axis=0, return_inverse=True)
        steps = [{ASPECTS[at]: Step(VERDICTS[one]) for at, one in enumerate(row) if one >= 0} for row in distinct.tolist()]
        chains = [Chain(one, error=error) for error in ("", *ERRORS) for one in steps]
        replies = [*wording.step_ids(chains), []]
        of_task = {AT_ONCE: np.full(len(grades), len(chains))}
        reply = np.stack([
            of_task.get(task, number + len(steps) * (task == REFLECT) * (1 + (decision < grades))) for task, decision in tasks
        ])  # fmt: skip
        asked = [wording.task_ids(*one) for one in tasks]
        of_prompts, of_asked, of_replies = (np.fromiter(map(len, ids), np.int64, len(ids)) for ids in (prompts, asked, replies))
        own = of_replies[reply] + of_asked[:, None] + len(wording.grade.prefix) + 1
        lengths = of_prompts + np.tile(own, len(prompts) // len(grades))
        return Lessons(wording, prompts, asked, replies, reply, grades, lengths.ravel())

    def batch(self, numbers: np.ndarray, device: torch.device | str = "cpu") -> tuple[dict[str, Any], torch.Tensor]:
        """Arguments of a causal model, whose rows end with the grade's token; and which of the tokens before it are its to write
        [rows, longest reply], aligned at that end."""
        rows, written = [], []
        for number in numbers.tolist():
            task, row = divmod(number, len(self.prompts))
            pair = row % len(self.grades)
            reply = self.replies[self.reply[task, pair]] + self.wording.grade.prefix
            rows.append(self.prompts[row] + self.asked[task] + reply + [self.wording.grade.grades[self.grades[pair]]])
            written.append(len(reply))
        longest = max(written)
        mask = torch.arange(longest)[None] >= longest - torch.tensor(written)[:, None]
        given: dict[str, Any] = self.wording.padded(rows, device)
        return {**given, "logits_to_keep": longest + 2, "use_cache": False}, mask.to(device)


@dataclass(frozen=True)
class WritingExamples:
    """`Examples` as lessons. To the training loop both look alike.

    `first` is the place of each kind of task among the lessons' tasks; `reflect` has one for every decision. `has_steps` [pairs].
    """

    examples: Examples
    encoded: Lessons
    first: dict[str, int]
    has_steps: np.ndarray

    @staticmethod
    def of(examples: Examples, tables: Tables, spec: ModelSpec, tokenizer: Any, config: TrainTeacherConfig) -> "WritingExamples":
        """Raises InputError when a chain is longer than `step_tokens`, so that scoring would cut it."""
        verdicts = verdicts_of(tables, config) if config.reasoning else np.full((len(examples.grades), len(ASPECTS)), -1)
        decisions = range(len(spec.gains))
        tasks = [(task, decision) for task in spec.replies for decision in (decisions if task == REFLECT else decisions[:1])]
        given: Any = examples.encoded
        lessons = Lessons.of(Wording(tokenizer, len(spec.gains)), given.columns["input_ids"], tasks, verdicts, examples.grades)
        longest = max(map(len, lessons.replies))
        if longest > config.step_tokens:
            raise InputError(f"key 'step_tokens' = {config.step_tokens}: this tokenizer writes the longest chain in {longest}; raise it")
        whole = replace(given, lengths=lessons.lengths.reshape(len(tasks), -1).max(axis=0))  # a batch's budget holds with any task
        first = {task: next(place for place, (name, _) in enumerate(tasks) if name == task) for task in spec.replies}
        return WritingExamples(replace(examples, encoded=whole), lessons, first, np.asarray((verdicts >= 0).any(axis=1)))

    @property
    def grades(self) -> np.ndarray:
        return self.examples.grades

    def batches(self, epoch: int, config: TrainTeacherConfig) -> list[np.ndarray]:
        """Numbers of `encoded`: every pair once, with a task drawn by (seed, epoch); a pair without steps is taught the grade alone."""
        rng = np.random.default_rng([config.seed, epoch, 1])
        num_grades = len(self.encoded.wording.grade.grades)
        names, places = np.array(list(self.first)), np.array(list(self.first.values()))
        found = []
        for rows in self.examples.batches(epoch, config):
            pairs = self.pairs_of(rows)
            drawn = np.where(self.has_steps[pairs], rng.integers(len(names), size=len(rows)), list(self.first).index(AT_ONCE))
            wrong = (self.grades[pairs] + rng.integers(1, num_grades, size=len(rows))) % num_grades
            found.append((places[drawn] + wrong * (names[drawn] == REFLECT)) * len(self.encoded.prompts) + rows)
        return found

    def mean_lengths(self) -> np.ndarray:
        """Tokens of each pair [pairs] with its longest task, on average over its prompts."""
        return self.examples.mean_lengths()

    def pairs_of(self, numbers: np.ndarray) -> np.ndarray:
        return numbers % len(self.grades)


class WritingObjective:
    """Mean loss of a batch of lessons: token cross-entropy on the reply alone.

    The grade counts as much as all tokens before it together, or the one token that scores would drown in those that the form prescribes;
    its target is the judgment's distribution, over the grades' tokens.
    """

    def __init__(self, examples: WritingExamples, device: torch.device) -> None:
        self.examples, self.device = examples, device
        self.targets = torch.from_numpy(examples.examples.targets).float().to(device)
        self.grade_ids = torch.tensor(examples.encoded.wording.grade.grades, device=device)
        self.lengths = examples.encoded.lengths

    def passes(self, numbers: np.ndarray) -> list[np.ndarray]:
        return [numbers]

    def __call__(self, model: torch.nn.Module, numbers: np.ndarray, batch: np.ndarray | None = None) -> torch.Tensor:
        """Args: batch: what `numbers` are a part of; the loss is what they add to its mean."""
        given, mask = self.examples.encoded.batch(numbers, self.device)
        logits = model(**given).logits[:, :-1].float()  # what follows the grade is nobody's concern
        written = given["input_ids"][:, -mask.shape[1] - 1 : -1]
        of_tokens = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), written, reduction="none")
        pairs = self.examples.pairs_of(numbers)
        wanted = self.targets[torch.from_numpy(pairs).to(self.device)]
        of_grade = -(wanted * torch.log_softmax(logits[:, -1], -1)[:, self.grade_ids]).sum(-1)
        weights = torch.from_numpy(self.examples.examples.weights[pairs]).float().to(self.device)
        loss = (((of_tokens * mask).sum(1) / mask.sum(1) + of_grade) * weights).mean()
        return loss * (len(numbers) / len(numbers if batch is None else batch))


@dataclass(frozen=True)
class AskedAtOnce:
    """Prompts with the task to give the grade at once [rows], to look at a network while it is trained."""

    wording: Wording
    prompts: list[list[int]]

    @staticmethod
    def of(encoded: Any, tokenizer: Any, spec: ModelSpec) -> "AskedAtOnce":
        wording = Wording(tokenizer, len(spec.gains))
        end = wording.task_ids(AT_ONCE) + wording.grade.prefix
        return AskedAtOnce(wording, [one + end for one in encoded.columns["input_ids"]])

    def read(self, called: torch.nn.Module, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        """Logits of the grades [rows, grades]."""
        given = self.wording.padded([self.prompts[row] for row in rows], device)
        return called(**given, logits_to_keep=1, use_cache=False).logits[:, -1, self.wording.grade.grades]
