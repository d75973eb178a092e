"""The two shapes of requests and answers: KServe's Open Inference Protocol v2, and `/rerank` as Cohere and Jina have it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.serving.config import ServingConfig
from components.serving.runtime import ITEM_FIELDS, Runtime
from components.shared.calibration import EVERYWHERE

DATATYPE = "BYTES"
INPUTS = ("query", *ITEM_FIELDS, "segment")


class RequestError(Exception):
    """What is wrong with a request, and the HTTP status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Question:
    """Pairs to score: `queries` and each of `fields` have one text per pair; `segment` of the queries is EVERYWHERE where unknown."""

    queries: list[str]
    fields: dict[str, list[str | None]]
    segments: list[str]
    more: dict[str, Any] = field(default_factory=dict)  # what the answer needs: id, top_n, documents

    def __len__(self) -> int:
        return len(self.queries)


@dataclass(frozen=True)
class Answer:
    """Per pair: the score and, of a calibrated model, the gain to expect and what may be done by it."""

    scores: np.ndarray
    gains: np.ndarray | None = None
    verdicts: list[str] | None = None


def parse_json(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
        # Python reads NaN, and half of a surrogate pair, which no answer could repeat
        json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise RequestError(f"the body is a JSON {type(given).__name__}; send an object")
    return given


def parse_infer(given: Mapping[str, Any], limits: ServingConfig) -> Question:
    """Tensors `query` and `title` (and `brand`, `color`, `category`, `segment`): BYTES [pairs], or [1] for one that all pairs share."""
    inputs = given.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(one, dict) for one in inputs):
        raise RequestError("'inputs' is not a list of tensors; send {name, shape, datatype, data}")
    tensors = {str(one.get("name")): _tensor(one) for one in inputs}
    if absent := [name for name in ("query", "title") if name not in tensors]:
        raise RequestError(f"input '{absent[0]}' is missing; inputs are query, title and, if known, {', '.join(INPUTS[2:])}")
    size = max(len(tensors["query"]), len(tensors["title"]))
    columns = {}
    for name, texts in tensors.items():
        if len(texts) not in (1, size):
            raise RequestError(f"input '{name}' has {len(texts)} texts and others {size}; give as many, or one for all")
        columns[name] = texts * (size // len(texts))
    _check_limits([*tensors.values()], size, limits)
    fields = {name: columns[name] for name in ITEM_FIELDS if name in columns}
    return Question(columns["query"], fields, columns.get("segment", [EVERYWHERE] * size), {"id": given.get("id")})


def _tensor(one: Mapping[str, Any]) -> list[Any]:
    name, data, shape = one.get("name"), one.get("data"), one.get("shape")
    if name not in INPUTS:
        raise RequestError(f"input '{name}' is unknown; one of {', '.join(INPUTS)}")
    if one.get("datatype") != DATATYPE:
        raise RequestError(f"input '{name}' has datatype {one.get('datatype')!r}; texts are {DATATYPE}")
    if not isinstance(data, list) or not data or not all(isinstance(text, str) for text in data):
        raise RequestError(f"input '{name}': 'data' is not a list of texts")
    if not isinstance(shape, list) or not all(isinstance(n, int) for n in shape) or int(np.prod(shape)) != len(data):
        raise RequestError(f"input '{name}' has shape {shape} and {len(data)} texts")
    return data


def describe(name: str, version: str, runtime: Runtime) -> dict[str, Any]:
    """Metadata of the model."""
    inputs = [{"name": one, "datatype": DATATYPE, "shape": [-1]} for one in INPUTS]
    outputs = [{"name": "score", "datatype": "FP32", "shape": [-1]}]
    if runtime.calibration:
        outputs += [{"name": "gain", "datatype": "FP32", "shape": [-1]}, {"name": "verdict", "datatype": DATATYPE, "shape": [-1]}]
    return {"name": name, "versions": [version], "platform": runtime.engine, "inputs": inputs, "outputs": outputs}


def infer_answer(question: Question, answer: Answer, name: str, version: str) -> dict[str, Any]:
    outputs = [_output("score", "FP32", answer.scores.tolist())]
    if answer.gains is not None:
        outputs += [_output("gain", "FP32", answer.gains.tolist()), _output("verdict", DATATYPE, answer.verdicts or [])]
    found = {"model_name": name, "model_version": version, "outputs": outputs}
    return found | ({"id": question.more["id"]} if question.more.get("id") is not None else {})


def _output(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}


def parse_rerank(given: Mapping[str, Any], limits: ServingConfig) -> Question:
    """`query`, `documents` (titles, or objects with `title` and other item fields), `top_n`, `return_documents`, `segment`."""
    query, documents, segment = given.get("query"), given.get("documents"), given.get("segment", EVERYWHERE)
    if not isinstance(query, str) or not isinstance(segment, str):
        raise RequestError("'query' and 'segment' are texts; send {query, documents, top_n, return_documents}")
    if not isinstance(documents, list) or not documents:
        raise RequestError("'documents' is not a list of titles, or of objects with a title")
    top_n = given.get("top_n")
    if top_n is not None and (not isinstance(top_n, int) or isinstance(top_n, bool) or top_n < 1):
        raise RequestError(f"'top_n' = {top_n!r} is not a number above 0")
    items = [_item(one, place) for place, one in enumerate(documents)]
    fields = {name: [one.get(name) for one in items] for name in ITEM_FIELDS if any(one.get(name) for one in items)}
    fields.setdefault("title", [""] * len(items))
    _check_limits([[query], *fields.values()], len(items), limits)
    more = {"top_n": top_n, "documents": documents if given.get("return_documents") else None}
    return Question([query] * len(items), fields, [segment] * len(items), more)


def _item(given: Any, place: int) -> dict[str, str]:
    if isinstance(given, str):
        return {"title": given}
    fields = {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else {}
    if "text" in fields and "title" not in fields:
        fields["title"] = fields["text"]
    found = {name: fields[name] for name in ITEM_FIELDS if name in fields}
    if "title" not in found or not all(isinstance(one, str) for one in found.values()):
        raise RequestError(
            f"'documents'[{place}] is neither a title nor an object with a title and, if known, {', '.join(ITEM_FIELDS[1:])}"
        )
    return found


def rerank_answer(question: Question, answer: Answer) -> dict[str, Any]:
    """`results` from the best score down, ties in the order asked."""
    order = np.argsort(-answer.scores, kind="stable")[: question.more["top_n"]]
    return {"results": [_result(question, answer, int(place)) for place in order]}


def _result(question: Question, answer: Answer, place: int) -> dict[str, Any]:
    found: dict[str, Any] = {"index": place, "relevance_score": float(answer.scores[place])}
    if answer.gains is not None and answer.verdicts is not None:
        found |= {"gain": float(answer.gains[place]), "verdict": answer.verdicts[place]}
    if question.more["documents"] is not None:
        one = question.more["documents"][place]
        found["document"] = {"text": one} if isinstance(one, str) else one
    return found


def _check_limits(columns: Sequence[Sequence[str | None]], num_items: int, limits: ServingConfig) -> None:
    if num_items > limits.max_items:
        raise RequestError(f"{num_items} items are too many; at most {limits.max_items} a request", 413)
    longest = max(len(text) for column in columns for text in column if text is not None)
    if longest > limits.max_text_chars:
        raise RequestError(f"a text of {longest} characters is too long; at most {limits.max_text_chars}", 413)
