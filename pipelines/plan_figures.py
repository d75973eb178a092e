"""Numbers that remember where they came from, and the places they may come from: what is given, result files, a recipe, assumptions."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.shared.errors import InputError
from pipelines import recipe

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results"


@dataclass(frozen=True)
class Assumption:
    """A number that nobody measured here; `least` is the smallest that makes sense."""

    value: float
    meaning: str
    least: float = 1e-9


ASSUMPTIONS = {
    "pairs_per_second_per_gpu": Assumption(0, "pairs/s that the teacher scores on one GPU; 0 derives it from the figures below", 0),
    "gpu_speedup": Assumption(500, "one GPU does in bf16 what this many threads of the benchmark's CPU do; measure it on your GPU"),
    "bench_parameters": Assumption(10.6e6, "parameters, embeddings left out, of the benchmark's model (MiniLM 6 x 384)"),
    "teacher_parameters": Assumption(7e9, "parameters of the teacher; a pair costs parameters x tokens"),
    "teacher_tokens": Assumption(200, "mean tokens of a teacher's prompt, neighbors included"),
    "student_parameters": Assumption(10.6e6, "parameters of a student, embeddings left out"),
    "student_tokens": Assumption(40, "mean tokens of a student's pair; a bi-encoder is counted like a cross-encoder"),
    "training_cost": Assumption(4, "a trained pair costs this many scored ones: forward, backward, forward again for checkpointing"),
    "training_efficiency": Assumption(0.8, "share of their speed that GPUs keep when several train one model"),
    "scoring_overhead": Assumption(1.2, "preemptions and tail of the pool's scoring, makespan over ideal; see simulate_workers.json", 1),
    "request_seconds": Assumption(0.05, "one request to object storage; publishing the pool's shards makes five for each, 32 at a time", 0),
    "read_bytes_per_second": Assumption(200e6, "of one process reading object storage, when it publishes the pool's shards"),
    "cpu_speedup": Assumption(
        1, "a cluster's CPU task does what this many of the benchmark machine do; steps without GPU are linear in rows"
    ),
    "task_start_seconds": Assumption(60, "until a task's pod runs: scheduling, image", 0),
    "download_bytes_per_second": Assumption(100e6, "speed at which an encoder arrives from hub or bucket"),
    "bytes_per_parameter": Assumption(4, "of a saved model"),
    "checkpoint_bytes_per_parameter": Assumption(16, "of the teacher's last training checkpoint: weights and optimizer", 0),
    "event_bytes": Assumption(30, "a row of `events` in Parquet (25 on the made-up shop, whose ids are short)"),
    "pair_bytes": Assumption(20, "a row of `pairs` in Parquet (13 on the made-up shop)"),
    "soft_target_bytes": Assumption(60, "a row of `soft_targets` in Parquet (56 on the made-up shop)"),
    "item_bytes": Assumption(500, "a row of `items` in Parquet"),
    "row_bytes": Assumption(30, "a row of any other table in Parquet"),
    "months_kept": Assumption(1, "how long one run's outputs are stored", 0),
}


@dataclass(frozen=True)
class Figure:
    """A value and the sources of everything that went into it."""

    value: float
    sources: tuple[str, ...] = ()

    def _with(self, other: "Figure", value: float) -> "Figure":
        return Figure(value, tuple(dict.fromkeys((*self.sources, *other.sources))))

    def __add__(self, other: "Figure") -> "Figure":
        return self._with(other, self.value + other.value)

    def __mul__(self, other: "Figure") -> "Figure":
        return self._with(other, self.value * other.value)

    def __truediv__(self, other: "Figure") -> "Figure":
        if not other.value:
            raise InputError(f"cannot plan: {', '.join(other.sources)} is 0; measure it again or give another value")
        return self._with(other, self.value / other.value)

    def at_most(self, other: "Figure") -> "Figure":
        return self._with(other, min(self.value, other.value))


@dataclass(frozen=True)
class Sources:
    """Where figures come from; every one that is asked for names itself."""

    given: Mapping[str, float]
    assumptions: Mapping[str, float]
    recipe_name: str
    settings: recipe.Settings
    results: Path = RESULTS
    measured: dict[str, float] = field(default_factory=dict)  # every figure of a result file that was asked for
    _read: dict[str, Any] = field(default_factory=dict)

    def scale(self, name: str) -> Figure:
        return Figure(self.given[name], (f"given {name}",))

    def assumed(self, name: str) -> Figure:
        return Figure(self.assumptions[name], (f"assumption {name}",))

    def setting(self, section: str, key: str) -> Figure:
        """A number of the recipe; of a list how many it has, but at least one."""
        given = self.settings[section][key]
        number = max(1, len(given)) if isinstance(given, list) else given
        return Figure(float(number), (f"recipe {self.recipe_name} {section}.{key}",))

    def result(self, name: str, *keys: str | int) -> Figure:
        """A number of `results/<name>.json`.

        Raises:
            InputError: when the file or the number is absent, or is no number from 0 up.
        """
        found: Any = self.record(name)
        for key in keys:
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                place = ".".join(map(str, keys))
                raise InputError(f"'{self._file(name)}' has no {place}; run python benchmarks/{self._script(name)} again") from None
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < float("inf"):
            raise InputError(f"'{self._file(name)}': {'.'.join(map(str, keys))} = {found!r} is no number from 0 up; measure it again")
        source = f"{name}.json {'.'.join(map(str, keys))}"
        self.measured[source] = float(found)
        return Figure(float(found), (source,))

    def record(self, name: str) -> dict[str, Any]:
        """The whole of a result file. Raises InputError when it is absent or broken."""
        if name not in self._read:
            try:
                self._read[name] = json.loads(self._file(name).read_text(encoding="utf-8"))
            except OSError:
                raise InputError(f"'{self._file(name)}' is absent; run python benchmarks/{self._script(name)}, or set --results") from None
            except ValueError as error:
                raise InputError(f"'{self._file(name)}' is not JSON ({error}); run python benchmarks/{self._script(name)} again") from None
        if not isinstance(self._read[name], dict):
            raise InputError(f"'{self._file(name)}' is no result file; run python benchmarks/{self._script(name)} again")
        return self._read[name]

    def _file(self, name: str) -> Path:
        return self.results / f"{name}.json"

    def _script(self, name: str) -> str:
        return "run_times.py" if name.startswith("run_times") else f"{name}.py"
