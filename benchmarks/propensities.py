"""How well each method recovers the examination of positions: python benchmarks/propensities.py [--sessions 20000] [--seeds 3]

Simulates shops with and without trust bias (position-based model, examination position^-eta), extracts each log once and estimates
examination with every method on the same cleaned counts. Truth is the simulator's published click model under its settings. Writes,
per method and position, the mean of estimate / truth over the seeds with a 95 % t-interval to benchmarks/results/propensities.json,
and draws them to propensities.svg beside it.
"""

import argparse
import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from unittest import mock

import duckdb
import matplotlib as mpl
import numpy as np
from machine import RESULTS, describe_machine, save
from matplotlib.figure import Figure
from scipy.stats import t as student

from components.extract_logs import propensity
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.propensity import Examination
from components.extract_logs.step import run as extract_logs
from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.step import run as import_dataset
from components.shared.tracking import NullTracker
from components.simulate_shop.behavior import ENGAGED
from components.simulate_shop.clicks import attraction, click_probability
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.step import run as simulate_shop

METHODS = {
    "power": {},
    "estimated": {"propensity": "estimated"},
    "em": {"propensity": "em"},
    "em, trust": {"propensity": "em", "propensity_trust": True},
    "swap": {"propensity": "swap"},
}
POSITIONS = 10


class MeasuredError(Exception):
    """All methods have been measured; what an extraction does afterwards is not needed."""


def truth(config: SimulateShopConfig) -> Examination:
    """Slope and base of the click probability in the attraction of an item, identified as `fit_click_model` does."""
    grades = np.array([0, 4])
    worst, best = attraction(grades)
    low, high = ENGAGED * click_probability(np.repeat(grades[:, None], config.page_size, axis=1), config.eta, config.trust_bias)
    slope = (high - low) / (best - worst)
    base = low - slope * worst
    deep = slice(config.page_size // 2, None)
    return Examination(slope / slope[0], base - slope * base[deep].sum() / slope[deep].sum(), config.page_size)


def estimates(config: SimulateShopConfig) -> dict[str, dict]:
    """Every method's estimate on one simulated log."""
    found: dict[str, dict] = {}

    def measure(connection: duckdb.DuckDBPyConnection, _: ExtractLogsConfig) -> Examination:
        for name, settings in METHODS.items():
            started = time.perf_counter()
            one = propensity_examine(connection, ExtractLogsConfig.from_mapping(settings, section="logs"))
            seconds = time.perf_counter() - started
            found[name] = {"examined": one.examined, "trusted": one.trusted, "last": one.last, "seconds": seconds}
        raise MeasuredError

    propensity_examine = propensity.examine
    with tempfile.TemporaryDirectory() as folder:
        places = {name: f"{folder}/{name}" for name in ("card", "items", "judged_queries", "judgments")}
        simulate_shop(config, dataset=f"{folder}/shop", tracker=NullTracker())
        import_dataset(ImportDatasetConfig(), dataset=f"{folder}/shop", **places, tracker=NullTracker())
        outputs = {name: f"{folder}/{name}" for name in ("events", "interactions", "queries", "reformulations", "lineage")}
        given = {name: places[name] for name in ("card", "judged_queries")}
        with mock.patch.object(propensity, "examine", measure), suppress(MeasuredError):
            extract_logs(ExtractLogsConfig(), **given, **outputs, tracker=NullTracker())
    return found


def summary(values: np.ndarray) -> list[dict[str, float]]:
    """Mean and 95 % t-interval over seeds [seeds, positions]."""
    half = student.ppf(0.975, len(values) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    middle = values.mean(axis=0)
    return [{"mean": round(m, 4), "low": round(m - h, 4), "high": round(m + h, 4)} for m, h in zip(middle, half, strict=True)]


def compare(configs: list[SimulateShopConfig]) -> dict[str, dict]:
    """Per method: estimate / truth by position, how far the means are off, and the trust of position 1."""
    runs = [estimates(config) for config in configs]
    right, result = truth(configs[0]), {}
    for method in METHODS:
        ratio = np.stack([run[method]["examined"][:POSITIONS] / right.examined[:POSITIONS] for run in runs])
        off = np.abs(ratio.mean(axis=0) - 1)
        result[method] = {
            "positions": summary(ratio),
            "worst_of_5": round(float(off[:5].max()), 4),
            "worst_of_10": round(float(off.max()), 4),
            "worst_seed_of_5": round(float(np.abs(ratio[:, :5] - 1).max()), 4),
            "estimated_positions": [run[method]["last"] for run in runs],
            "trust_at_1": summary(np.array([[run[method]["trusted"][0]] for run in runs]))[0]
            | {"truth": round(float(right.trusted[0]), 4)},
            "seconds": round(float(np.mean([run[method]["seconds"] for run in runs])), 2),
        }
    return result


def draw(result: dict[str, dict], file: Path) -> None:
    """Estimate over truth by position with its interval, a panel per click model and a line per method, as SVG."""
    with mpl.rc_context({"svg.hashsalt": "propensities", "font.size": 8}):
        figure = Figure(figsize=(9, 3), layout="constrained")
        panels = figure.subplots(1, len(result), sharey=True)
        for panel, (model, methods) in zip(panels, result.items(), strict=True):
            panel.axhspan(0.9, 1.1, color="0.93")
            panel.axhline(1, color="0.6", linewidth=0.8)
            for place, (method, one) in enumerate(methods.items()):
                mean, low, high = (np.array([at[name] for at in one["positions"]]) for name in ("mean", "low", "high"))
                position = np.arange(1, len(mean) + 1) + 0.08 * (place - len(methods) / 2)
                panel.errorbar(
                    position, mean, [mean - low, high - mean], label=method, marker="o", markersize=3, linewidth=1, elinewidth=0.6
                )
            panel.set(title=f"clicks with {model}", xlabel="position", ylim=(0.5, 1.5))
        panels[0].set_ylabel("estimated / true examination")
        panels[-1].legend(fontsize=7)
        figure.savefig(file, format="svg", metadata={"Date": None})


def main() -> None:
    """Measure both click models and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--eta", type=float, default=0.8)
    given = parser.parse_args()
    machine = describe_machine()
    result = {}
    for name, trust_bias in (("position bias", False), ("position and trust bias", True)):
        shared = {"num_sessions": given.sessions, "eta": given.eta, "trust_bias": trust_bias}
        result[name] = compare([SimulateShopConfig(seed=seed + 1, **shared) for seed in range(given.seeds)])
    save("propensities", machine, {"sessions": given.sessions, "seeds": given.seeds, "eta": given.eta}, result)
    draw(result, RESULTS / "propensities.svg")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
