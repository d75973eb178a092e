"""Small random classifiers of several encoder families, with one tokenizer."""

from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from components.prepare_encoder.vocabulary import learn_tokenizer

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 66}
MAX_TOKENS = 40
ALIKE = {"vocab_size": 120, "pad_token_id": 0, "num_labels": 3, "initializer_range": 0.3}
WINDOW = {"global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3, "local_attention": 8}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "bert": (BertForSequenceClassification, BertConfig, {}),
    "electra": (ElectraForSequenceClassification, ElectraConfig, {"embedding_size": 32}),
    "roberta": (RobertaForSequenceClassification, RobertaConfig, {}),
    "deberta": (DebertaV2ForSequenceClassification, DebertaV2Config, {"pos_att_type": ["c2p"], "relative_attention": True}),
    "modernbert_cls": (
        ModernBertForSequenceClassification,
        ModernBertConfig,
        {**WINDOW, "local_attention": 8, "classifier_pooling": "cls"},
    ),
    "modernbert_mean": (ModernBertForSequenceClassification, ModernBertConfig, {**WINDOW, "classifier_pooling": "mean"}),
}


def make_families() -> tuple[Any, dict[str, Any]]:
    """(tokenizer, classifier by family)."""
    tokenizer = learn_tokenizer(["red blue shoes lamp chair for large small garden kitchen"] * 3, 120, 64)
    made = {}
    for name, (family, config, more) in FAMILIES.items():
        torch.manual_seed(3)
        made[name] = family(config(**SIZES, **ALIKE, **more)).eval()
    return tokenizer, made
