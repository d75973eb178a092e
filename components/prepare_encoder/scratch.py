"""A small BERT or decoder built here, whose word vectors start from the catalogue's own co-occurrence."""

from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from transformers import AutoModel, BertConfig, BertModel, PretrainedConfig, Qwen3Config

from components.prepare_encoder.config import PrepareEncoderConfig

# Found on the simulated shop: words twice as long as BERT's 0.02, positions a quarter as long, so that equal words look alike wherever
# they stand; segments twice as long, because what tells a match is that a query word's attention brings in the other segment; query and
# key weights four times, so that attention is peaked.
TOKEN_STD = 0.04
POSITION_GAIN, SEGMENT_GAIN, MATCHING_GAIN = 0.25, 2.0, 4.0


def shape_of(config: PrepareEncoderConfig, vocab_size: int, pad_token_id: int) -> PretrainedConfig:
    """The sizes of the network that is built here."""
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_tokens,
        "pad_token_id": pad_token_id,
    }
    heads = {"num_key_value_heads": config.num_heads, "head_dim": config.hidden_size // config.num_heads}
    made: Any = BertConfig if config.family == "bert" else Qwen3Config
    return made(**sizes, **({} if made is BertConfig else {**heads, "bos_token_id": None, "eos_token_id": None}))


def build_encoder(config: PrepareEncoderConfig, tokenizer: Any) -> Any:
    """A network of the configured kind and size with random weights from `config.seed`."""
    torch.manual_seed(config.seed)
    return AutoModel.from_config(shape_of(config, len(tokenizer), tokenizer.pad_token_id))


def token_presence(tokenizer: Any, texts: list[str]) -> Any:
    """Which token stands in which text, as a sparse matrix of 0 and 1 [texts, vocabulary]; special tokens are left out."""
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    ids = np.fromiter((token for row in encoded for token in row), np.int64, int(lengths.sum()))
    rows = np.repeat(np.arange(len(encoded)), lengths)
    ordinary = ~np.isin(ids, tokenizer.all_special_ids)
    shape = (len(encoded), len(tokenizer))
    counts = sparse.csr_matrix((np.ones(int(ordinary.sum()), np.float32), (rows[ordinary], ids[ordinary])), shape=shape)
    counts.data[:] = 1.0
    return counts


def positive_pmi(present: Any) -> Any:
    """Positive pointwise mutual information of tokens within a text [vocabulary, vocabulary].

    max(0, log( #(a,b) * D / (#(a) * #(b)) )) with D the sum of all pair counts and #(a) the row sums (Levy and Goldberg 2014).
    """
    together = (present.T @ present).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    together = together.tocoo()
    totals = np.asarray(together.sum(axis=1)).ravel()
    score = np.log(together.data * totals.sum() / (totals[together.row] * totals[together.col]))
    kept = score > 0
    return sparse.csr_matrix((score[kept], (together.row[kept], together.col[kept])), shape=together.shape)


def cooccurrence_vectors(present: Any, width: int, seed: int) -> np.ndarray:
    """Vectors [vocabulary, width], float32, whose products approximate positive PMI; zero rows for tokens never seen with another."""
    pmi = positive_pmi(present)
    rank = min(width, min(pmi.shape) - 1)
    if pmi.nnz == 0 or rank < 1:
        return np.zeros((pmi.shape[0], width), np.float32)
    factors = TruncatedSVD(rank, random_state=seed)
    vectors = factors.fit_transform(pmi) / np.sqrt(np.maximum(factors.singular_values_, 1e-6))
    return np.pad(vectors, ((0, 0), (0, width - rank))).astype(np.float32)


def warm_start(model: Any, vectors: np.ndarray) -> int:
    """Give words their co-occurrence vectors, and let each position of a BERT's first layer look at the same and similar words.

    Attention logits of a random layer say nothing about word identity, so a small model spends its first thousands of steps on
    learning to match words. With equal query and key projections W, x W W' y is a similarity from the first step on; the segment's
    direction is taken out of W, so that the similarity reaches from the query to the item.

    Returns:
        Number of tokens that got a vector.
    """
    known = np.abs(vectors).sum(axis=1) > 0
    with torch.no_grad():
        if known.any():
            scaled = vectors[known] * (TOKEN_STD / vectors[known].std())
            model.get_input_embeddings().weight[torch.from_numpy(known)] = torch.from_numpy(scaled)
        if isinstance(model, BertModel):
            _match_words(model)
    return int(known.sum())


def _match_words(model: BertModel) -> None:
    embeddings: Any = model.embeddings
    embeddings.position_embeddings.weight.mul_(POSITION_GAIN)
    segments = embeddings.token_type_embeddings.weight.mul_(SEGMENT_GAIN)
    between = torch.nn.functional.normalize(segments[1] - segments[0], dim=0)
    attention: Any = model.encoder.layer[0].attention
    projections = attention.self
    weight = projections.query.weight.mul_(MATCHING_GAIN)
    weight.sub_(torch.outer(weight @ between, between))
    projections.key.weight.copy_(weight)
