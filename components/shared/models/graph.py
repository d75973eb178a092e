"""The graph student: two texts read word by word, beside what shoppers' behavior puts next to each of them.

After BERM (arXiv 2210.01701): order 0 is a word-by-word interaction of query and title, higher orders are meta-paths around both nodes of
the query-item graph, gathered by attention. Its formulas are not known to us; these are ours, with so few weights that one can read them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import nn

from components.shared import storage
from components.shared.errors import InputError
from components.shared.models.arithmetic import fast_float32
from components.shared.models.batches import token_batches
from components.shared.models.pooling import mean_pool
from components.shared.models.tokens import encode_rows
from components.shared.text import NEIGHBOR_SEPARATOR, split_stages

HEAD_FILE = "graph.safetensors"
SPEED = 100.0
"""The head moves by SPEED x learning rate per step of Adam; at an encoder's rate its few weights would stand still."""
SHARPNESS = 5.0  # of the attention, where it starts: a neighbor at cosine 1 counts e^5 times one at cosine 0


@dataclass(frozen=True)
class EgoTexts:
    """Pairs as numbers of distinct texts: `nodes` [rows, 2] (query, item), `neighbors` [rows, 2, order, k], -1 where there is none."""

    texts: list[str]
    nodes: np.ndarray
    neighbors: np.ndarray

    @staticmethod
    def of(left: Sequence[str], right: Sequence[str], order: int, k: int) -> "EgoTexts":
        """From the texts of `inputs.model_texts`: each side its own text, then the lists of its neighbors, order by order."""
        number: dict[str, int] = {}
        sides = [split_stages(texts, 1 + order) for texts in (left, right)]
        nodes = np.array([[number.setdefault(one, len(number)) for one in side[0]] for side in sides], np.int64).T
        neighbors = np.full((len(left), 2, order, k), -1, np.int64)
        for place, side in enumerate(sides):
            for step, lists in enumerate(side[1:]):
                for row, listed in enumerate(lists):
                    found = [number.setdefault(one, len(number)) for one in listed.split(NEIGHBOR_SEPARATOR)[:k] if one]
                    neighbors[row, place, step, : len(found)] = found
        return EgoTexts(list(number), nodes.reshape(-1, 2), neighbors)

    def distinct(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(numbers of the texts that `rows` need, `nodes` and `neighbors` of those rows as places among them)."""
        near = self.neighbors[rows]
        needed = np.union1d(self.nodes[rows].ravel(), near[near >= 0])
        return needed, np.searchsorted(needed, self.nodes[rows]), np.where(near >= 0, np.searchsorted(needed, near), -1)


class GraphHead(nn.Module):
    """Weights of the features, and how sharply each meta-path attends: to its own node's text and to the other side's.

    Args:
        order: 0, 1 or 2 steps of the graph.
        scale: what a text match of 1 is worth before training.
    """

    def __init__(self, order: int, scale: float = 1.0) -> None:
        super().__init__()
        self.order = order
        self.weights = nn.Parameter(torch.zeros(len(self.names())))
        self.shift = nn.Parameter(torch.zeros(()))
        self.sharpness = nn.Parameter(torch.zeros(2, order, 2))
        self.scale, self.start = nn.Buffer(torch.tensor(float(scale))), nn.Buffer(torch.zeros(len(self.names())))
        self.start[:2] = 0.5

    def names(self) -> list[str]:
        """What each weight weighs: the word interaction, a cosine for every order on both sides, and which lists are there."""
        steps = range(self.order + 1)
        cosines = [f"query_{one}_item_{two}" for one in steps for two in steps]
        lists = [f"{side}_has_{one}" for side in ("query", "item") for one in steps if one]
        return ["words", *cosines, *lists]

    def readable(self) -> dict[str, float]:
        """What each feature is worth, by name."""
        values = (self.scale * (self.start + SPEED * self.weights)).tolist()
        return dict(zip(self.names(), values, strict=True))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Raw scores [rows] from features [rows, names]."""
        return self.scale * (features @ (self.start + SPEED * self.weights)) + SPEED * self.shift

    def attended(self, vectors: torch.Tensor, nodes: torch.Tensor, neighbors: torch.Tensor) -> torch.Tensor:
        """One unit-length vector for each side's own text and each order of its neighbors [rows, 2, 1 + order, width]; 0 for no neighbors.

        Args:
            vectors: unit length [texts, width].
            nodes: [rows, 2]; neighbors: [rows, 2, order, k], -1 where there is none.
        """
        own = vectors[nodes]
        near, there = vectors[neighbors.clamp(min=0)], neighbors >= 0
        similar = torch.stack([torch.einsum("rsokw,rsw->rsok", near, one) for one in (own, own.flip(1))], -1)
        start = torch.tensor([0.0, SHARPNESS], device=vectors.device)
        logits = (similar * (start + SPEED * self.sharpness)[None, :, :, None]).sum(-1)
        weight = torch.softmax(logits.masked_fill(~there, -1e9), -1) * there
        gathered = F.normalize(torch.einsum("rsok,rsokw->rsow", weight, near), dim=-1)
        return torch.cat([own[:, :, None], gathered], 2)

    def features(self, words: torch.Tensor, vectors: torch.Tensor, nodes: torch.Tensor, neighbors: torch.Tensor) -> torch.Tensor:
        """[rows, names]."""
        query, item = self.attended(vectors, nodes, neighbors).unbind(1)
        cosines = torch.einsum("row,rpw->rop", query, item).flatten(1)
        there = (neighbors >= 0).any(-1).flatten(1).to(words.dtype)
        return torch.cat([words[:, None], cosines, there], 1)


def word_interaction(states: torch.Tensor, mask: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
    """For each query word its best cosine with a word of the item, averaged over the query's words [rows].

    ColBERT's late interaction (Khattab and Zaharia 2020, arXiv 2004.12832, equation 3), as a mean so that long queries are not worth more.

    Args:
        states: hidden states [texts, tokens, width]; mask: [texts, tokens], 1 for real ones; nodes: [rows, 2].
    """
    states = F.normalize(states, dim=-1)
    similar = torch.einsum("rqw,riw->rqi", states[nodes[:, 0]], states[nodes[:, 1]])
    best = similar.masked_fill(mask[nodes[:, 1]][:, None] == 0, -1.0).amax(-1)
    real = mask[nodes[:, 0]].to(best.dtype)
    return (best * real).sum(1) / real.sum(1)


def graph_scores(network: Any, head: GraphHead, batches: Iterable[tuple[np.ndarray, Any]], nodes: np.ndarray, neighbors: np.ndarray) -> Any:
    """Raw scores [rows], float32.

    Args:
        batches: texts tokenised and padded, with their numbers; together they hold every text that a row needs, once.
        nodes, neighbors: places of texts, as in `EgoTexts`.
    """
    numbers, read = [], []
    for number, batch in batches:
        numbers.append(number)
        read.append((network(**batch).last_hidden_state.float(), batch["attention_mask"]))
    longest = max(mask.shape[1] for _, mask in read)
    back = torch.from_numpy(np.argsort(np.concatenate(numbers))).to(read[0][0].device)
    vectors = torch.cat([mean_pool(states, mask) for states, mask in read])[back]
    states = torch.cat([F.pad(states, (0, 0, 0, longest - states.shape[1])) for states, _ in read])[back]
    mask = torch.cat([F.pad(mask, (0, longest - mask.shape[1])) for _, mask in read])[back]
    own, near = (torch.from_numpy(places).to(vectors.device) for places in (nodes, neighbors))
    return head(head.features(word_interaction(states, mask, own), vectors, own, near))


def save_head(head: GraphHead, uri: str) -> None:
    """Write the head into the model folder at `uri`."""
    storage.write_bytes(storage.join(uri, HEAD_FILE), save({name: value.cpu().contiguous() for name, value in head.state_dict().items()}))


def load_head(folder: Path, order: int) -> GraphHead:
    """The head of a model folder.

    Raises:
        InputError: when it is absent or was made for another order.
    """
    head, file = GraphHead(order), folder / HEAD_FILE
    if not file.is_file():
        raise InputError(f"model folder '{folder}' has no {HEAD_FILE}, without which a graph student has no score; train it again")
    try:
        head.load_state_dict(load_file(file))
    except RuntimeError:
        raise InputError(f"'{file}' is not the head of a graph student of order {order}; train it again") from None
    return head


class GraphReader:
    """Scores pairs with a trained network and head; texts that pairs of a chunk share are read once.

    Args:
        num_neighbors: at most so many texts of each list are looked at.
    """

    CHUNK = 512

    def __init__(
        self, network: Any, head: GraphHead, tokenizer: Any, *, num_neighbors: int, max_tokens: int, batch_tokens: int, precision: str
    ) -> None:
        self.network, self.head, self.tokenizer = network, head.to(network.device).eval(), tokenizer
        self.num_neighbors, self.max_tokens, self.batch_tokens, self.precision = num_neighbors, max_tokens, batch_tokens, precision

    @torch.inference_mode()
    def logits(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """[rows, 1], float32."""
        if not len(left):
            return np.zeros((0, 1), np.float32)
        ego = EgoTexts.of(left, right, self.head.order, self.num_neighbors)
        encoded = encode_rows(self.tokenizer, ego.texts, max_tokens=self.max_tokens)
        lengths = np.fromiter(map(len, encoded["input_ids"]), np.int64, len(ego.texts))
        out = np.zeros((len(left), 1), np.float32)
        with fast_float32(), torch.autocast(self.network.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            for rows in np.array_split(np.arange(len(left)), range(self.CHUNK, len(left), self.CHUNK)):
                needed, nodes, neighbors = ego.distinct(rows)
                parts = token_batches(lengths[needed], self.batch_tokens)
                batches = ((part, self._batch(encoded, needed[part])) for part in parts)
                out[rows, 0] = graph_scores(self.network, self.head, batches, nodes, neighbors).float().cpu().numpy()
        return out

    def _batch(self, encoded: dict[str, list[list[int]]], texts: np.ndarray) -> Any:
        piece = {name: [column[text] for text in texts] for name, column in encoded.items()}
        return self.tokenizer.pad(piece, return_tensors="pt").to(self.network.device)
