"""Make an encoder: built from the shop's own texts, or taken from a pretrained one and checked."""

import logging
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.prepare_encoder import extension, scratch, vocabulary
from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.pretrained import load_encoder, locate
from components.shared.errors import InputError
from components.shared.models import folder
from components.shared.report import Report
from components.shared.tables import Manifest, read_table
from components.shared.text import field_marks
from components.shared.tracking import Tracker

logger = logging.getLogger(__name__)


def run(config: PrepareEncoderConfig, *, items: str, queries: str, encoder: str, tracker: Tracker) -> Report:
    """Write a model folder of kind `encoder`.

    Args:
        items, queries: the tables whose texts the model will read; an encoder that is built here learns from them, or words are added.
        encoder: model folder to write.

    Raises:
        InputError: for a source that is absent, unsafe or too small, or tables without rows.
    """
    if config.source:
        model, tokenizer = load_encoder(locate(config), config)
        metrics = _extended(config, model, tokenizer, *_tables(items, queries, tracker)) if config.added_words else {}
    else:
        model, tokenizer, metrics = _built(config, items, queries, tracker)
    source = config.source + (f"@{config.revision}" if config.revision else "")
    folder.save(encoder, model, tokenizer, folder.ModelSpec("encoder", config.max_tokens, source=source or "scratch"))
    num_parameters = sum(value.numel() for value in model.parameters())
    metrics |= {"num_parameters": num_parameters, "num_layers": model.config.num_hidden_layers, "vocab_size": len(tokenizer)}
    logger.info("encoder from %s: %d parameters", source or "scratch", num_parameters)
    return Report(metrics=metrics, notes={"source": source or "scratch"})


def _built(config: PrepareEncoderConfig, items: str, queries: str, tracker: Tracker) -> tuple[Any, Any, dict[str, float]]:
    if config.hidden_size % config.num_heads:
        raise InputError(f"key 'hidden_size' = {config.hidden_size} is not a multiple of num_heads = {config.num_heads}; change one")
    item_rows, query_rows = _tables(items, queries, tracker)
    texts = vocabulary.catalogue_texts(item_rows, query_rows, config.max_texts, config.seed)
    tokenizer = vocabulary.learn_tokenizer(texts, config.vocab_size, config.max_tokens)
    if config.family != "bert":
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # a decoder knows no segments
    model = scratch.build_encoder(config, tokenizer)
    metrics = {"num_texts": float(len(texts))}
    if config.warm_start:
        short = vocabulary.short_texts(item_rows, query_rows, config.max_texts, config.seed)
        present = scratch.token_presence(tokenizer, short[0] + short[1])
        vectors = scratch.cooccurrence_vectors(present, config.hidden_size, config.seed)
        metrics["warm_started_tokens"] = float(scratch.warm_start(model, vectors))
    return model, tokenizer, metrics


def _tables(items: str, queries: str, tracker: Tracker) -> tuple[pa.Table, pa.Table]:
    """Items, and the queries that may be learnt from."""
    item_rows, query_rows = read_table(items, "items"), read_table(queries, "queries")
    for name, uri, table in (("items", items, item_rows), ("queries", queries, query_rows)):
        if not len(table):
            raise InputError(f"'{uri}': table '{name}' has no rows, so there is no text to learn from; check the step that wrote it")
        if not uri.endswith(".parquet"):
            tracker.dataset(name, uri, Manifest.read(uri).digest, len(table))
    # whoever evaluates on dev or test queries must not have learnt from them, not even their words
    query_rows = query_rows.filter(pc.invert(pc.is_in(query_rows["split"], value_set=pa.array(["dev", "test"]))))
    return item_rows, query_rows


def _extended(config: PrepareEncoderConfig, model: Any, tokenizer: Any, items: pa.Table, queries: pa.Table) -> dict[str, float]:
    """Add words to a given encoder; the metrics say what that does to a pair's length."""
    texts = vocabulary.short_texts(items, queries, config.max_texts, config.seed)
    before = extension.pair_tokens(tokenizer, *texts)
    words = extension.choose_words(extension.words_in_pieces(tokenizer, texts[0] + texts[1]), config.added_words)
    extension.add_words(model, tokenizer, words)
    extension.add_marks(model, tokenizer, field_marks())
    after = extension.pair_tokens(tokenizer, *texts)
    return {"added_words": float(len(words)), "tokens_per_pair.before": before, "tokens_per_pair": after}
