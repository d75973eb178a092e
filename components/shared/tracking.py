"""What a step says about itself: parameters, metrics, data sets, artifacts.

A step writes to a `Tracker`. In a pipeline that is a `SpoolTracker`: one JSON line per call, in a file beside the step's output.
`components.shared.tracking_mlflow` sends spools to MLflow, now or later, so tracking never stops the work and a re-used step is
logged again from its own spool.
"""

import json
import math
import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from components.shared.errors import InputError


class Tracker(Protocol):
    """The interface that steps see; every call is cheap and never raises because of a server."""

    @abstractmethod
    def params(self, values: Mapping[str, Any]) -> None:
        """Settings; logged once under the recipe's names."""
        ...

    @abstractmethod
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Numbers under the names they have every night; `step` for curves."""
        ...

    @abstractmethod
    def headline(self, values: Mapping[str, float]) -> None:
        """Metrics that also stand on the pipeline's own run, where runs are compared."""
        ...

    @abstractmethod
    def tags(self, values: Mapping[str, str]) -> None:
        """Short texts to filter runs by."""
        ...

    @abstractmethod
    def dataset(self, name: str, uri: str, digest: str, rows: int) -> None:
        """A table that was read or written."""
        ...

    @abstractmethod
    def artifact(self, uri: str, folder: str = "") -> None:
        """A file to keep with the run: a report or a plot, never weights."""
        ...


class NullTracker:
    """Keeps nothing; for tests and for command lines."""

    def params(self, values: Mapping[str, Any]) -> None:
        del values

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        _refuse_not_finite(values)
        del step

    def headline(self, values: Mapping[str, float]) -> None:
        _refuse_not_finite(values)

    def tags(self, values: Mapping[str, str]) -> None:
        del values

    def dataset(self, name: str, uri: str, digest: str, rows: int) -> None:
        del name, uri, digest, rows

    def artifact(self, uri: str, folder: str = "") -> None:
        del uri, folder


class SpoolTracker:
    """Appends each call as one JSON line; a line is flushed before the call returns."""

    def __init__(self, file: Path, section: str) -> None:
        self.file, self.section = file, section
        file.parent.mkdir(parents=True, exist_ok=True)

    def write(self, kind: str, **content: Any) -> None:
        line = json.dumps({"kind": kind, "section": self.section, "time": time.time(), **content}, ensure_ascii=False)
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")

    def params(self, values: Mapping[str, Any]) -> None:
        self.write("params", values={f"{self.section}.{name}": value for name, value in values.items()})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        _refuse_not_finite(values)
        self.write("metrics", values={f"{self.section}.{name}": float(value) for name, value in values.items()}, step=step)

    def headline(self, values: Mapping[str, float]) -> None:
        _refuse_not_finite(values)
        self.write("headline", values={name: float(value) for name, value in values.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        self.write("tags", values=dict(values))

    def dataset(self, name: str, uri: str, digest: str, rows: int) -> None:
        self.write("dataset", name=name, uri=uri, digest=digest, rows=rows)

    def artifact(self, uri: str, folder: str = "") -> None:
        self.write("artifact", uri=uri, folder=folder)


def _refuse_not_finite(values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"metric '{name}' is {value}; a step must stop on a value that is not finite instead of logging it")
