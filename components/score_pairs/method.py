"""How a decoder reads the pairs of one table: decided once, written beside its plan, and kept by whoever goes on with it."""

from dataclasses import replace
from typing import Any

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.shard_scorer import Places, ShardScorer
from components.score_pairs.work import Work
from components.shared import storage, tables
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec
from components.shared.models.inputs import model_texts
from components.shared.models.method_choice import MAX_PAIRS, choose_method
from components.shared.models.tokens import join_pairs

METHOD = "method.json"
DEFAULT = "plain"


def settle_method(config: ScorePairsConfig, spec: ModelSpec, uri: str, places: Places, work: Work) -> str:
    """The method that is configured, that the unfinished table at `uri` was begun with, or that is fastest on the first pairs.

    Methods round differently, so all rows of a table are read by one. Of several runs that measure at once, the first decides.

    Raises:
        InputError: when a method is configured for a model that knows only one.
    """
    if config.engine != "transformers":
        return DEFAULT
    if not spec.classifies_as_decoder():
        if config.method not in ("auto", DEFAULT):
            raise InputError(f"key 'method' = '{config.method}': model '{places.model}' is no decoder with a head; set auto or {DEFAULT}")
        return DEFAULT
    if config.method != "auto":
        return config.method
    settled = storage.join(uri, METHOD)
    if not storage.exists(settled):
        if tables.is_committed(uri) or not len(work.pairs):
            return DEFAULT
        method, rates = _measured(config, places, work)
        storage.create_once(settled, storage.to_json({"method": method, "pairs_per_s": rates}))
    return storage.read_json(settled)["method"]


def _measured(config: ScorePairsConfig, places: Places, work: Work) -> tuple[str, dict[str, float]]:
    ready = ShardScorer(config.model_copy(update={"method": DEFAULT}), places, work)
    scorer: Any = ready.scorer
    some = work.pairs.slice(0, MAX_PAIRS)
    longest = replace(ready.spec, stages=ready.spec.stages[-1:])
    left, right = model_texts(longest, some, work.queries, work.items, ready.neighbors)
    return choose_method(scorer.decoder, join_pairs(scorer.tokenizer, left, right, ready.spec.max_tokens))
