"""How right accepted neighbors are, and how fast they are found: python benchmarks/neighbors.py [--sessions 8000] [--pairs 60000]

Quality: simulated shops (seen through the real extraction) whose examination falls as the default power law says, slower, and slower
with trust bias; each rule's neighbors against the simulator's own grades. Precision is the share of the best three items of a query
that are graded Exact, the highest of five, over queries that have any, with a bootstrap interval over queries; coverage the share of
clicked queries that have any. Rules accept different numbers of pairs, so precision is also given over as many pairs as the published
rule accepts, the surest by lower bound under every rule.

Speed: made tables of interactions, each way in a process of its own.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from machine import RESULTS, describe_machine, save, time_command

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.step import run as extract_logs
from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.step import run as import_dataset
from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.step import run as retrieve_neighbors
from components.shared.metrics import mean_interval
from components.shared.tables import Manifest, read_table, write_table
from components.shared.text import normalise_query
from components.shared.tracking import NullTracker
from components.simulate_shop.catalogue import item_ids, make_catalogue
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.queries import make_queries
from components.simulate_shop.relevance import grade_items
from components.simulate_shop.step import run as simulate_shop

SHOPS = {
    "power law is right": {"eta": 1.0},
    "examination falls slower": {"eta": 0.5},
    "slower, and trust bias": {"eta": 0.5, "trust_bias": True},
}
EXAMINATION = {"power": {}, "em": {"propensity": "em"}, "em, trust": {"propensity": "em", "propensity_trust": True}}
RULES = {  # name -> examination, settings of the room
    "published, 100 and 0.2": ("power", {"rule": "published"}),
    "raw click rate, 5 impressions": ("power", {"rule": "published", "min_exposures": 5, "min_rate": 0.0}),
    "lower bound, power law": ("power", {}),
    "lower bound, em": ("em", {}),
    "lower bound, em with trust": ("em, trust", {}),
}
LOG_OUTPUTS = ("events", "interactions", "queries", "reformulations", "lineage")
GOOD_GRADE, K = 4, 3
WAYS = {"first order": {}, "half-life": {"half_life_days": 14}, "second order": {"order": 2}}


def true_grades(config: SimulateShopConfig) -> dict[tuple[str, str], int]:
    """Grade of every (query, item) of the shop, by the simulator's hidden rules; a query that two needs share is left out."""
    streams = [np.random.default_rng([config.seed, 2**31 + place]) for place in range(2)]
    catalogue = make_catalogue(config.num_items, streams[0])
    queries = make_queries(config.num_queries, config.num_log_queries, catalogue, streams[1])
    texts = normalise_query(queries.text).to_pylist()
    grades = grade_items(queries.needs.take(np.arange(len(queries))), catalogue)
    names = item_ids(len(catalogue)).to_pylist()
    repeated = {text for text in texts if texts.count(text) > 1}
    return {
        (text, name): int(one)
        for text, row in zip(texts, grades, strict=True)
        if text not in repeated
        for name, one in zip(names, row, strict=True)
    }


def best_items(neighbors: pa.Table) -> list[dict]:
    """The first K items of each query, surest first."""
    rows = neighbors.filter(pc.and_(pc.equal(neighbors["side"], "query"), pc.less_equal(neighbors["rank"], K)))
    return rows.sort_by([("snapshot", "ascending"), ("lower_bound", "descending"), ("key", "ascending"), ("rank", "ascending")]).to_pylist()


def precision(rows: list[dict], grades: dict[tuple[str, str], int]) -> dict[str, float]:
    """Share of good items per query that has any, with its interval."""
    hits: dict[str, list[bool]] = {}
    for row in rows:
        if (row["key"], row["neighbor"]) in grades:
            hits.setdefault(row["key"], []).append(grades[row["key"], row["neighbor"]] >= GOOD_GRADE)
    found = mean_interval(np.array([np.mean(one) for one in hits.values()]), seed=1)
    return {name: round(value, 4) for name, value in asdict(found).items()}


def measure_quality(config: SimulateShopConfig) -> dict[str, dict]:
    """Every rule on one shop."""
    grades, found = true_grades(config), {}
    with tempfile.TemporaryDirectory() as folder:
        given = {name: f"{folder}/{name}" for name in ("card", "items", "judged_queries", "judgments")}
        simulate_shop(config, dataset=f"{folder}/shop", tracker=NullTracker())
        import_dataset(ImportDatasetConfig(), dataset=f"{folder}/shop", **given, tracker=NullTracker())
        logs = {}
        for place, (name, settings) in enumerate(EXAMINATION.items()):
            logs[name] = {table: f"{folder}/{place}/{table}" for table in LOG_OUTPUTS}
            source = {table: given[table] for table in ("card", "judged_queries")}
            extract_logs(ExtractLogsConfig.from_mapping(settings, section="logs"), **source, **logs[name], tracker=NullTracker())
        for place, (rule, (examination, settings)) in enumerate(RULES.items()):
            tables = {
                "items": given["items"],
                "judgments": given["judgments"],
                **{n: logs[examination][n] for n in ("interactions", "queries")},
            }
            out = f"{folder}/neighbors{place}"
            retrieve_neighbors(RetrieveNeighborsConfig(num_neighbors=K, **settings), **tables, neighbors=out, tracker=NullTracker())
            found[rule] = best_items(read_table(out, "neighbors"))
        log = read_table(logs["power"]["interactions"], "interactions")
    clicked = len(pc.unique(log.filter(pc.greater(log["clicks"], 0))["query"]))
    fewest = len(found["published, 100 and 0.2"])
    return {
        rule: {
            "precision": precision(rows, grades),
            "precision_at_equal_count": precision(rows[:fewest], grades),
            "coverage": round(len({row["key"] for row in rows}) / clicked, 4),
            "num_neighbors": len(rows),
        }
        for rule, rows in found.items()
    }


def make_tables(folder: Path, num_pairs: int, days: int = 14) -> dict[str, str]:
    """Pairs of Zipf queries and items, each on four days of two weeks on average."""
    rng = np.random.default_rng(1)
    num_queries, num_items = num_pairs // 20, num_pairs // 30
    query = (num_queries * rng.random(num_pairs) ** 2).astype(np.int64)
    item = (query * 7 + (40 * rng.random(num_pairs) ** 2).astype(np.int64)) % num_items
    pair = np.unique(query * num_items + item)
    row = np.repeat(np.arange(len(pair)), rng.integers(1, 8, len(pair)))
    day = rng.integers(days, size=len(row))
    row, day = np.unique(np.stack([row, day]), axis=1)
    seen = rng.integers(1, 40, len(row))
    clicks = rng.binomial(seen, np.array([0.02, 0.3])[(pair[row] % 5 == 0).astype(int)])
    names, texts = pa.array([f"item-{n:08d}" for n in range(num_items)]), pa.array([f"query {n:08d}" for n in range(num_queries)])
    start = date(2026, 9, 1)
    log = pa.table({
        "query": texts.take(pa.array(pair[row] // num_items)), "item_id": names.take(pa.array(pair[row] % num_items)),
        "day": pa.array([start + timedelta(days=n) for n in range(days)], pa.date32()).take(pa.array(day)),
        "impressions": seen, "clicks": clicks, "add_to_carts": clicks * 0, "purchases": clicks * 0, "clients": seen,
        "corrected_impressions": seen * 0.5, "corrected_clicks": clicks.astype(float),
    })  # fmt: skip
    none = pa.nulls(num_items, pa.string())
    items = {"item_id": names, "title": names, **dict.fromkeys(("brand", "category", "color", "attributes", "description"), none)}
    some = pa.nulls(num_queries, pa.string())
    known = {
        "query_id": texts,
        "query_text": texts,
        "query": texts,
        "frequency": np.ones(num_queries, np.int64),
        "kind": some,
        "split": some,
    }
    known["segment"] = pa.repeat("tail", num_queries)
    judged = {
        "query_id": ["query 00000000"],
        "item_id": ["item-00000000"],
        "grade": pa.array([1], pa.int32()),
        "gain": [1.0],
        "split": ["train"],
    }
    judged["judged_at"] = pa.nulls(1, pa.date32())
    for name, columns in (("interactions", log), ("items", pa.table(items)), ("queries", pa.table(known)), ("judgments", pa.table(judged))):
        write_table(str(folder / name), name, columns)
    last_day = log.filter(pc.equal(log["day"], pa.scalar(start + timedelta(days=days - 1))))
    write_table(str(folder / "night"), "interactions", last_day)
    write_table(str(folder / "before"), "interactions", log.filter(pc.less(log["day"], pa.scalar(start + timedelta(days=days - 1)))))
    return {name: str(folder / name) for name in ("interactions", "items", "queries", "judgments")}


def measure_run(places: dict[str, str], out: Path, settings: dict) -> dict[str, float]:
    """Seconds and peak memory of one run through the command line."""
    flags = [f"--{name}={uri}" for name, uri in places.items()] + [f"--neighbors={out}/neighbors", f"--evidence={out}/evidence"]
    flags += [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    seconds, cpu, peak_mib = time_command([sys.executable, "-m", "components.retrieve_neighbors", *flags])
    rows, pairs = (Manifest.read(uri).rows for uri in (places["interactions"], f"{out}/evidence"))
    return {
        "interactions": rows, "pairs": pairs, "neighbors": Manifest.read(f"{out}/neighbors").rows, "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2), "pairs_per_cpu_s": round(pairs / cpu),
        "peak_mib": round(peak_mib),
    }  # fmt: skip


def measure_speed(num_pairs: int) -> dict[str, dict[str, float]]:
    """Whole runs over two weeks, and one night that goes on from the night before."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        places = make_tables(folder, num_pairs)
        found = {way: measure_run(places, folder / f"way{n}", settings) for n, (way, settings) in enumerate(WAYS.items())}
        measure_run(places | {"interactions": str(folder / "before")}, folder / "yesterday", WAYS["half-life"])
        night = places | {"interactions": str(folder / "night"), "previous": str(folder / "yesterday")}
        return found | {"half-life, one night": measure_run(night, folder / "today", WAYS["half-life"])}


def main() -> None:
    """Measure, and write the results file; a part that is not measured stays in it as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=8_000)
    parser.add_argument("--pairs", type=int, default=60_000)
    parser.add_argument("--only", choices=("quality", "speed"))
    given = parser.parse_args()
    machine, measured = describe_machine(), {}
    if given.only != "speed":
        measured["quality"] = {
            name: measure_quality(SimulateShopConfig(num_sessions=given.sessions, **shop)) for name, shop in SHOPS.items()
        }
    if given.only != "quality":
        measured["speed"] = measure_speed(given.pairs)
    file = RESULTS / "neighbors.json"
    before = json.loads(file.read_text())["result"] if file.exists() else {}
    save("neighbors", machine, {"sessions": given.sessions, "pairs": given.pairs, "good_grade": GOOD_GRADE, "k": K}, before | measured)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
