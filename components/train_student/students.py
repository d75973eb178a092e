"""The architectures as trainable modules, and their folders; sentence-transformers opens those of cross-encoder and bi-encoder as well."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from components.shared import storage
from components.shared.models import folder
from components.shared.models.batches import token_batches
from components.shared.models.graph import EgoTexts, GraphHead, graph_scores, save_head
from components.shared.models.pooling import mean_pool
from components.shared.training import Encoded, EncodedApart

SCALE_SPEED = 100.0
"""Scale and offset move by SCALE_SPEED x learning rate per step of Adam; at an encoder's rate alone they would stand still."""
HEAD_SPEED = 10.0
"""The heads of sub-judgments move by HEAD_SPEED x learning rate, because they start from nothing beside an encoder that knows much."""


class Heads(nn.Linear):
    """One linear head for each sub-judgment [rows, heads]."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads)
        with torch.no_grad():
            self.weight.div_(HEAD_SPEED)
            self.bias.zero_()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return HEAD_SPEED * super().forward(input.float())


class Student(nn.Module, ABC):
    """A network with the texts of all rows, tokenised once; `forward` scores rows.

    Args:
        num_heads: further answers beside the score (`sub_judgments.py`); their heads are of the training alone.
    """

    def __init__(self, network: Any, batch_tokens: int, num_heads: int = 0) -> None:
        super().__init__()
        self.network, self.batch_tokens = network, batch_tokens
        self.heads = Heads(self.width(), num_heads) if num_heads else None

    def forward(self, rows: np.ndarray) -> torch.Tensor:
        """Raw scores [rows], float32."""
        return self.answers(rows)[:, 0]

    @abstractmethod
    def answers(self, rows: np.ndarray) -> torch.Tensor:
        """Raw scores, then what the heads say [rows, 1 + heads], float32."""

    def width(self) -> int:
        """Of what the heads read."""
        return int(self.network.config.hidden_size)

    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def in_passes(self, one_pass: Callable[[Any], torch.Tensor], tokens: Encoded, rows: np.ndarray, width: int) -> torch.Tensor:
        """`one_pass` over length-sorted parts of `rows`, back in order [rows, width]; exact, and it saves most padding."""
        parts = token_batches(tokens.lengths[rows], self.batch_tokens)
        outputs = [one_pass(tokens.batch(rows[part].tolist(), self.device())).float() for part in parts]
        back = np.argsort(np.concatenate(parts), kind="stable")
        return torch.cat(outputs).reshape(-1, width)[torch.from_numpy(back).to(self.device())]

    @torch.inference_mode()
    def predict(self, rows: np.ndarray, chunk: int = 2048) -> np.ndarray:
        """`answers` of any number of rows [rows, 1 + heads], float64, in evaluation mode."""
        was_training = self.training
        self.eval()
        pieces = [self.answers(rows[at : at + chunk]).cpu().numpy() for at in range(0, len(rows), chunk)]
        self.train(was_training)
        return np.concatenate(pieces).astype(np.float64)


@contextmanager
def recording_input(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """While open, gives what `module` reads, one tensor for each forward pass."""
    seen: list[torch.Tensor] = []

    def keep(module: nn.Module, given: Any) -> None:
        seen.append(given[0])

    hook = module.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


class CrossEncoder(Student):
    """Query and item read together; the score is the head's one logit, and the heads of sub-judgments read what that head reads."""

    def __init__(
        self, network: Any, tokenizer: Any, texts: tuple[list[str], list[str]], *, max_tokens: int, batch_tokens: int, num_heads: int = 0
    ) -> None:
        super().__init__(network, batch_tokens, num_heads)
        self.tokens = Encoded.of(tokenizer, *texts, max_tokens=max_tokens)

    def answers(self, rows: np.ndarray) -> torch.Tensor:
        return self.in_passes(self.one_pass, self.tokens, rows, 1 + (self.heads.out_features if self.heads else 0))

    def one_pass(self, batch: Any) -> torch.Tensor:
        if self.heads is None:
            return self.network(**batch).logits
        with recording_input(self.score_head()) as seen:
            logits = self.network(**batch).logits
        return torch.cat([logits, self.heads(seen[0])], dim=1)

    def score_head(self) -> nn.Linear:
        """The network's last linear layer, which makes the logit."""
        return [module for module in self.network.modules() if isinstance(module, nn.Linear)][-1]

    def width(self) -> int:
        return self.score_head().in_features


class BiEncoder(Student):
    """A vector for each text by the same network; the score is scale x cosine + offset, both learnt, order by cosine alone.

    The heads of sub-judgments read the element-wise product of both vectors, times its width: a cosine is their mean then, not their sum.

    Args:
        scale: where the scale starts: the spread of the targets within queries, so that cosines 0 to 1 span them.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        texts: tuple[list[str], list[str]],
        *,
        max_tokens: int,
        batch_tokens: int,
        scale: float,
        num_heads: int = 0,
    ) -> None:
        super().__init__(network, batch_tokens, num_heads)
        self.pairs = EncodedApart.of(tokenizer, *texts, max_tokens=max_tokens)
        self.start = scale
        self.growth, self.shift = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def scale(self) -> torch.Tensor:
        return self.start * torch.exp(SCALE_SPEED * self.growth)

    def answers(self, rows: np.ndarray) -> torch.Tensor:
        texts, *places = self.pairs.distinct(rows)
        vectors = self.in_passes(self.one_pass, self.pairs.tokens, texts, self.width())
        left, right = (vectors[torch.from_numpy(place).to(self.device())] for place in places)
        product = left * right
        scores = self.scale() * product.sum(-1, keepdim=True) + SCALE_SPEED * self.shift
        return scores if self.heads is None else torch.cat([scores, self.heads(self.width() * product)], dim=1)

    def one_pass(self, batch: Any) -> torch.Tensor:
        return mean_pool(self.network(**batch).last_hidden_state.float(), batch["attention_mask"])


class GraphStudent(Student):
    """Word interaction of the two texts beside their neighbors in the behavior graph; the score is the head's weighted sum.

    Args:
        texts: as `inputs.model_texts` writes them for a graph student.
        scale: what a text match of 1 is worth before training: the spread of the targets within queries.
    """

    def __init__(
        self, network: Any, tokenizer: Any, texts: tuple[list[str], list[str]], *, spec: folder.ModelSpec, batch_tokens: int, scale: float
    ) -> None:
        super().__init__(network, batch_tokens)
        self.ego = EgoTexts.of(*texts, spec.graph_order, spec.num_neighbors)
        self.tokens = Encoded.of(tokenizer, self.ego.texts, max_tokens=spec.max_tokens)
        self.head = GraphHead(spec.graph_order, scale)

    def answers(self, rows: np.ndarray) -> torch.Tensor:
        needed, nodes, neighbors = self.ego.distinct(rows)
        parts = token_batches(self.tokens.lengths[needed], self.batch_tokens)
        batches = ((part, self.tokens.batch(needed[part].tolist(), self.device())) for part in parts)
        return graph_scores(self.network, self.head, batches, nodes, neighbors)[:, None]


@torch.no_grad()
def average_with(network: nn.Module, start: dict[str, torch.Tensor], trained_weight: float) -> None:
    """Move every weight that `start` names to (1 - w) start + w trained (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903, section 3)."""
    trained = network.state_dict()
    for name, value in start.items():
        if value.is_floating_point():
            trained[name].lerp_(value.to(trained[name].device), 1.0 - trained_weight)


def set_dropout(network: nn.Module, share: float) -> None:
    """Use one dropout share in all of a network; its saved settings keep their own."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def save_student(uri: str, student: Student, tokenizer: Any, spec: folder.ModelSpec) -> None:
    """Publish the model folder; `CrossEncoder(folder)` and `SentenceTransformer(folder)` of sentence-transformers open it too.

    Not so a graph student, whose score nobody else computes.
    """
    network: Any = student.network
    storage.remove(storage.join(uri, folder.SPEC))
    tokenizer.model_max_length = spec.max_tokens
    if spec.kind == "cross_encoder":
        # its own default is a sigmoid; with the identity, its scores are ours
        network.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    elif isinstance(student, GraphStudent):
        save_head(student.head, uri)
    else:
        _write_modules(uri, int(network.config.hidden_size), spec.max_tokens)
    folder.save(uri, network, tokenizer, spec)


def _write_modules(uri: str, width: int, max_tokens: int) -> None:
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(modules)
    ]
    storage.write_json(storage.join(uri, "modules.json"), listed)
    storage.write_json(storage.join(uri, "sentence_bert_config.json"), {"max_seq_length": max_tokens, "do_lower_case": False})
    storage.write_json(storage.join(uri, "1_Pooling/config.json"), {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True})
    storage.write_json(storage.join(uri, "2_Normalize/config.json"), {})
