"""A grade's reasons, step by step: the chain of sub-judgments that annotators and generative teachers write, and how it is read back.

Relevance falls into aspects, and the grade follows from their verdicts (ELLM-rele, arXiv 2411.13045). A chain is a line per step, in the
order of `ASPECTS`, where a step may cite the words that it rests on, and the grade at its end:

    category: match | sneakers | running shoes
    brand: not_mentioned
    grade: 3

A chain that looks back on a wrong decision begins with `error: too_high` or `error: too_low` (decision reflection, LREF, arXiv
2503.09223). What does not have this form is malformed: it is dropped and counted, never guessed at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.shared.schema import ASPECTS, VERDICTS

GRADE, ERROR = "grade:", "error:"
ERRORS = ("too_high", "too_low")
CITES = " | "


class MalformedChainError(ValueError):
    """A chain that is not of the form; `reason` is the name under which it is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Step:
    """The verdict on one aspect, and the words of query and item that it cites (empty where it cites none)."""

    verdict: str
    query_span: str = ""
    item_span: str = ""

    def line(self, aspect: str) -> str:
        cited = [self.query_span, self.item_span] if self.query_span or self.item_span else []
        return CITES.join([f"{aspect}: {self.verdict}", *cited]).rstrip()


@dataclass(frozen=True)
class Chain:
    """Steps by aspect (some may be absent), the grade that they lead to, and the error of the decision looked back on."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    grade: int | None = None
    error: str = ""

    def text(self) -> str:
        """The chain as it is written, up to its last word."""
        lines = [f"{ERROR} {self.error}"] if self.error else []
        lines += [self.steps[aspect].line(aspect) for aspect in ASPECTS if aspect in self.steps]
        return "\n".join(lines + ([f"{GRADE} {self.grade}"] if self.grade is not None else []))


def parse_chain(text: str, num_grades: int = 0) -> Chain:
    """Read a chain back; without `num_grades` it has steps alone.

    Raises:
        MalformedChainError: for a line that is no step, an unknown aspect or verdict, an aspect twice or out of order, an absent or
            unknown grade, or text after the grade.
    """
    lines = text.strip().splitlines()
    error = grade = None
    if lines and lines[0].startswith(ERROR):
        error = _one_of(lines.pop(0).removeprefix(ERROR).strip(), ERRORS, "unknown_error")
    if num_grades:
        grade = _grade_of(lines.pop() if lines else "", num_grades)
    steps: dict[str, Step] = {}
    place = -1
    for line in lines:
        aspect, step = _step_of(line)
        if aspect in steps:
            raise MalformedChainError("repeated_aspect")
        if ASPECTS.index(aspect) < place:
            raise MalformedChainError("aspects_out_of_order")
        place, steps[aspect] = ASPECTS.index(aspect), step
    return Chain(steps, grade, error or "")


def _step_of(line: str) -> tuple[str, Step]:
    head, *cited = line.split(CITES.strip())
    aspect, colon, verdict = head.partition(":")
    if not colon or len(cited) > 2:
        raise MalformedChainError("no_step")
    spans = [one.strip() for one in cited] + ["", ""]
    return _one_of(aspect.strip(), ASPECTS, "unknown_aspect"), Step(_one_of(verdict.strip(), VERDICTS, "unknown_verdict"), *spans[:2])


def _grade_of(line: str, num_grades: int) -> int:
    if not line.startswith(GRADE):
        raise MalformedChainError("no_grade")
    return int(_one_of(line.removeprefix(GRADE).strip(), tuple(map(str, range(num_grades))), "unknown_grade"))


def _one_of(word: str, known: tuple[str, ...], reason: str) -> str:
    if word not in known:
        raise MalformedChainError(reason)
    return word


def verdict_numbers(sub_judgments: pa.Table, pairs: pa.Table) -> np.ndarray:
    """Number in VERDICTS of the verdict on each aspect of each pair [rows of `pairs`, aspects], -1 where there is none.

    Args:
        sub_judgments: query_id, item_id, aspect, verdict; rows of other pairs are passed over.
        pairs: query_id, item_id.
    """
    keys, wanted = (pc.binary_join_element_wise(one["query_id"], one["item_id"], "\x1f") for one in (sub_judgments, pairs))
    rows, aspects, verdicts = (
        pc.index_in(column, value_set=pa.array(values)).to_numpy(zero_copy_only=False)
        for column, values in ((keys, wanted.combine_chunks()), (sub_judgments["aspect"], ASPECTS), (sub_judgments["verdict"], VERDICTS))
    )
    is_ours = ~np.isnan(rows)
    numbers = np.full((len(pairs), len(ASPECTS)), -1, np.int64)
    numbers[rows[is_ours].astype(np.int64), aspects[is_ours]] = verdicts[is_ours]
    return numbers
