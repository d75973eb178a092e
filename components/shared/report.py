"""What a step returns: counts that reconcile, and metrics under the names they have every night."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """Counts and metrics of one step.

    Where rows are filtered, `read = kept + sum(dropped) + quarantined` must hold; a Report that does not reconcile cannot be made.
    `read` stays None for steps that filter nothing.
    """

    read: int | None = None
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    quarantined: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.read is None:
            return
        accounted = self.kept + sum(self.dropped.values()) + self.quarantined
        if self.read != accounted:
            raise AssertionError(f"rows do not reconcile: read {self.read}, kept + dropped + quarantined {accounted}")

    def counts(self) -> dict[str, int]:
        """The counts as flat names: read, kept, quarantined, dropped.<reason>."""
        if self.read is None:
            return {}
        dropped = {f"dropped.{reason}": count for reason, count in sorted(self.dropped.items())}
        return {"read": self.read, "kept": self.kept, "quarantined": self.quarantined, **dropped}

    def markdown(self, title: str) -> str:
        """A one-page summary for the Kubeflow UI."""
        rows = [(name, f"{value:,}") for name, value in self.counts().items()]
        rows += [(name, f"{value:.6g}") for name, value in self.metrics.items()]
        rows += list(self.notes.items())
        table = "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows)
        return f"# {title}\n\n| name | value |\n|---|---|\n{table}\n"


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "/").split())
