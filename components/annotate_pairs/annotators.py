"""Annotators behind one interface: rules and dictionaries, a language model that is asked over HTTP, a generative teacher."""

import re
from abc import abstractmethod
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from components.annotate_pairs.config import AnnotatorConfig
from components.shared.aspects import Chain, MalformedChainError, Step, parse_chain
from components.shared.endpoint import ChatClient, Endpoint, quoted
from components.shared.errors import InputError
from components.shared.models.inputs import model_texts
from components.shared.rule_annotator import NAME, RuleAnnotator
from components.shared.tables import rows_of
from components.shared.text import ANNOTATE, query_text, teacher_item

SCHEMA = pa.schema([(name, pa.string()) for name in ("query_id", "item_id", "aspect", "verdict", "query_span", "item_span")])
SPAN_NOT_FOUND = "span_not_found"
WORD = re.compile(r"[0-9]+(?:\.[0-9]+)?|[^\W\d_]+")


@dataclass(frozen=True)
class Shop:
    """What pairs refer to; `judgments` (split train) may teach the rules what words mean, `neighbors` is for teachers."""

    queries: pa.Table
    items: pa.Table
    judgments: pa.Table | None = None
    neighbors: pa.Table | None = None


@dataclass(frozen=True)
class Annotations:
    """Rows of `SCHEMA`, and how many chains (or single steps, for `span_not_found`) were dropped, by reason."""

    rows: pa.Table
    dropped: Counter[str] = field(default_factory=Counter)


class Annotator(Protocol):
    """Gives sub-judgments of pairs; where it has none, or a malformed one, it gives no row."""

    name: str

    @abstractmethod
    def annotate(self, pairs: pa.Table) -> Annotations:
        """Args: pairs: query_id, item_id, all of them known."""
        ...


def open_annotator(config: AnnotatorConfig, shop: Shop) -> Annotator:
    """Raises InputError when the annotator cannot work (a teacher that does not write, an address that is none)."""
    kinds: dict[str, Any] = {"rules": Rules, "endpoint": Asked, "teacher": Taught}
    return kinds[config.kind](config, shop)


class Rules:
    """`shared/rule_annotator.py`; cites what it compared."""

    def __init__(self, config: AnnotatorConfig, shop: Shop) -> None:
        del config
        self.name, self._rules = NAME, RuleAnnotator(shop.queries, shop.items, shop.judgments)

    def annotate(self, pairs: pa.Table) -> Annotations:
        return Annotations(self._rules.annotate(pairs).select(SCHEMA.names).cast(SCHEMA))


class Asked:
    """A language model is asked for the chain of every pair. What shoppers and sellers wrote is quoted, and words that it cites must stand
    there."""

    def __init__(self, config: AnnotatorConfig, shop: Shop) -> None:
        self.name, self.shop, self.max_tokens = f"endpoint {config.model}", shop, config.max_tokens
        settings = {"requests_per_minute": config.requests_per_minute, "parallel_requests": config.parallel_requests}
        self.client = ChatClient(Endpoint(config.url, config.model, **settings))

    def annotate(self, pairs: pa.Table) -> Annotations:
        queries = query_text(rows_of(self.shop.queries, "query_id", pairs["query_id"], where="pairs")["query"]).to_pylist()
        items = teacher_item(rows_of(self.shop.items, "item_id", pairs["item_id"], where="pairs")).to_pylist()
        with ThreadPoolExecutor(self.client.endpoint.parallel_requests) as pool:
            answers = list(pool.map(self._ask, queries, items))
        dropped: Counter[str] = Counter()
        chains = [_checked(*one, dropped) for one in zip(answers, queries, items, strict=True)]
        return Annotations(rows_of_chains(pairs, chains), dropped)

    def _ask(self, query: str, item: str) -> str:
        question = {"role": "user", "content": f"{quoted(query)}\n{quoted(item)}"}
        answer = self.client.ask([{"role": "system", "content": ANNOTATE}, question], max_tokens=self.max_tokens, temperature=0)
        return str((answer.get("message") or {}).get("content") or "")


class Taught:
    """A generative teacher; what it writes for a pool is what students can learn its steps from."""

    def __init__(self, config: AnnotatorConfig, shop: Shop) -> None:
        from components.shared.models.scoring import Scorer  # noqa: PLC0415 - torch and transformers, which the others do without

        self.shop, self.scorer = shop, Scorer(config.model)
        if self.scorer.writer is None or self.scorer.spec.replies[0] == "grade":
            raise InputError(f"annotator teacher: '{config.model}' writes no steps; give a teacher of form 'generative' that explains")
        self.name = f"teacher {self.scorer.digest[:12]}"

    def annotate(self, pairs: pa.Table) -> Annotations:
        assert self.scorer.writer is not None
        told = self.scorer.spec
        spec = replace(told, stages=told.stages[-1:], num_neighbors=told.num_neighbors if self.shop.neighbors is not None else 0)
        written = self.scorer.writer.write(*model_texts(spec, pairs, self.shop.queries, self.shop.items, self.shop.neighbors))
        return Annotations(rows_of_chains(pairs, written.chains()), written.malformed)


def rows_of_chains(pairs: pa.Table, chains: list[Chain | None]) -> pa.Table:
    """Rows of `SCHEMA`: the steps of each pair's chain."""
    told = zip(pairs["query_id"].to_pylist(), pairs["item_id"].to_pylist(), chains, strict=True)
    rows = [
        (query_id, item_id, aspect, step.verdict, step.query_span, step.item_span)
        for query_id, item_id, chain in told if chain
        for aspect, step in chain.steps.items()
    ]  # fmt: skip
    columns = zip(*rows, strict=True) if rows else [()] * len(SCHEMA)
    return pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)


def _checked(answer: str, query: str, item: str, dropped: Counter[str]) -> Chain | None:
    """The chain of an answer without the steps that cite what is not there."""
    try:
        steps = parse_chain(answer).steps
    except MalformedChainError as error:
        dropped[error.reason] += 1
        return None
    kept: dict[str, Step] = {
        aspect: step for aspect, step in steps.items() if _cites(step.query_span, query) and _cites(step.item_span, item)
    }
    if len(kept) < len(steps):
        dropped[SPAN_NOT_FOUND] += len(steps) - len(kept)
    return Chain(kept)


def _cites(span: str, whole: str) -> bool:
    """Whether the span's words stand in the text, one after the other."""
    return f" {_words(span)} " in f" {_words(whole)} " if span else True


def _words(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))
