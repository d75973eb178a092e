"""Pairs that the network under training is asked about: after every epoch, and to fit grades to its cosines."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from components.shared.models.arithmetic import resolve_precision
from components.shared.models.batches import token_batches
from components.shared.models.folder import ModelSpec
from components.shared.models.inputs import model_texts
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.examples import Tables, encode
from components.train_teacher.grading import grade_metrics, order_metrics
from components.train_teacher.world import World
from components.train_teacher.writing import AskedAtOnce


class HeldOut:
    """`pairs` as the network reads them, in the last of several stages."""

    def __init__(
        self,
        pairs: pa.Table,
        tables: Tables,
        spec: ModelSpec,
        tokenizer: Any,
        config: TrainTeacherConfig,
        world: World,
        device: torch.device,
    ) -> None:
        texts = model_texts(replace(spec, stages=spec.stages[-1:]), pairs, tables.queries, tables.items, tables.neighbors)
        self.encoded = encode(tokenizer, *texts, spec, config)
        self.written = AskedAtOnce.of(self.encoded, tokenizer, spec) if spec.replies else None
        self.batches = token_batches(self.encoded.lengths, config.batch_tokens)
        self.grades, self.query_ids = pairs["grade"].to_numpy(), pairs["query_id"].to_numpy()
        self.gains = np.asarray(spec.gains)
        self.world, self.device, self.half = world, device, resolve_precision(config.precision) == "bf16"
        self.separate = config.reading == "separate"

    def outputs(self, called: torch.nn.Module) -> np.ndarray:
        """What the network says of each pair [pairs, labels], float64; processes read batches in turn and all get the whole."""
        was_training = called.training
        called.eval()
        mine: list[tuple[np.ndarray, np.ndarray]] = []
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            for rows in self.world.turns(self.batches):
                answer = (
                    self.written.read(called, rows, self.device) if self.written else called(**self.encoded.batch(rows, self.device)).logits
                )
                mine.append((rows, answer.float().cpu().numpy()))
        called.train(was_training)
        found = np.zeros((len(self.grades), mine[0][1].shape[1]))
        for rows, logits in (part for parts in self.world.gather(mine) for part in parts):
            found[rows] = logits
        return found

    def metrics(self, called: torch.nn.Module) -> dict[str, float]:
        """Of the order within queries and, where the network gives grades, of the grades; under `epoch.`."""
        outputs = self.outputs(called)
        if self.separate:
            found, order = {}, outputs[:, 0]
        else:
            probabilities = torch.softmax(torch.from_numpy(outputs), dim=1).numpy()
            found, order = grade_metrics(probabilities, self.grades, self.gains), probabilities @ self.gains
        found |= order_metrics(order, self.gains[self.grades], self.query_ids)
        return {f"epoch.{name}": value for name, value in found.items()}
