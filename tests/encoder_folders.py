"""Random encoders of 2 layers x 32, quick to make and to run."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from components.shared.models import folder
from components.shared.models.folder import ModelSpec
from components.shared.models.graph import GraphHead, save_head

WORDS = ["red", "blue", "green", "shoes", "kettle", "hose", "garden", "running", "sneakers", "query", "title", "|", ":", ";"]
GAINS = [0.0, 0.1, 1.0]


def _tokenizer() -> PreTrainedTokenizerFast:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    inner = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


def make_model(uri: str, kind: str, *, num_neighbors: int = 0, broken: bool = False, seed: int = 7) -> str:
    torch.manual_seed(seed)
    gains = GAINS if kind == "teacher" else []
    spec = ModelSpec(kind, 64, gains=gains, num_neighbors=num_neighbors)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, num_labels=spec.num_labels(), initializer_range=0.5,
    )  # fmt: skip
    model = BertForSequenceClassification(config) if kind in folder.JOINT_KINDS else BertModel(config)
    if broken:
        model.classifier.bias.data.fill_(float("nan"))
    if kind == "graph":
        save_head(GraphHead(spec.graph_order), uri)
    folder.save(uri, model, _tokenizer(), spec)
    return uri
