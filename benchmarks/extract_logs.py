"""How fast and how lean extract_logs is: python benchmarks/extract_logs.py [--events 1000000 5000000 25000000] [--threads 2]

Makes UBI logs of a given size (numpy only; 12 events a search, Zipf queries, duplicates, malformed rows, one bot) and extracts each in a
process of its own, by the room's command line and by the hand-written peers of extract_logs_peers.py, one after the other. Writes
seconds, CPU seconds, events per second and the peak resident memory of each process to benchmarks/results/extract_logs.json, and refuses
a peer whose interactions differ from ours. polars needs the extra `bench`.
"""

import argparse
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from machine import describe_machine, save, time_command

from components.shared import tables, text

DAYS, EVENTS_A_SEARCH, NUM_QUERIES, NUM_ITEMS = 7, 12, 20_000, 50_000
FIRST_MS = 1_714_521_600_000  # 2024-05-01T00:00:00Z
OUTPUTS = ("events", "interactions", "queries", "reformulations", "lineage")
PEERS = ("duckdb", "polars", "pandas")


def _names(prefix: str, numbers: np.ndarray) -> pa.Array:
    padded = pa.array(numbers).cast(pa.string())
    return pc.binary_join_element_wise(f"{prefix}-0000-4000-8000-", pc.utf8_lpad(padded, 16, "0"), "")


def _iso(milliseconds: np.ndarray) -> pa.Array:
    return pc.strftime(pa.array(milliseconds, pa.timestamp("ms")), format="%Y-%m-%dT%H:%M:%SZ")


def make_log(folder: Path, num_events: int, seed: int = 1) -> None:
    """Write ubi_queries and ubi_events with one partition a day."""
    rng = np.random.default_rng(seed)
    searches = num_events // EVENTS_A_SEARCH // DAYS
    words = pa.array([f"query number {n} with words" for n in range(NUM_QUERIES)])
    for day in range(DAYS):
        number = np.arange(searches) + day * searches
        ms = FIRST_MS + day * 86_400_000 + np.sort(rng.integers(86_000_000, size=searches))
        client = rng.integers(max(num_events // 60, 100), size=searches)
        client[: searches // 50] = 0
        query = np.minimum(rng.zipf(1.3, searches), NUM_QUERIES) - 1
        typed, ids, clients = words.take(pa.array(query)), _names("q", number), _names("c", client)
        columns = {"application": pa.repeat("shop", searches), "query_id": ids, "client_id": clients, "user_query": typed}
        _write(folder, "ubi_queries", day, pa.table({**columns, "timestamp": _iso(ms)}))
        _write(folder, "ubi_events", day, _events(rng, ids, clients, typed, ms, number))


def _events(rng: np.random.Generator, ids: pa.Array, clients: pa.Array, typed: pa.Array, ms: np.ndarray, number: np.ndarray) -> pa.Table:
    at = np.repeat(np.arange(len(ms)), EVENTS_A_SEARCH)
    step = np.tile(np.arange(EVENTS_A_SEARCH), len(ms))
    is_click = step == EVENTS_A_SEARCH - 1
    position = np.where(is_click, rng.integers(1, 6, len(at)), step + 1)
    item = (number[at] * 31 + position * 7) % NUM_ITEMS
    rows = np.where(rng.random(len(at)) < 0.003, np.maximum(np.arange(len(at)) - 1, 0), np.arange(len(at)))  # some rows twice
    chosen = pa.array(at[rows])
    thing = pa.StructArray.from_arrays([_names("i", item[rows])], ["object_id"])
    ordinal = np.where(rng.random(len(at)) < 0.001, -1, position[rows]).astype(np.int32)
    where = pa.StructArray.from_arrays([pa.array(ordinal)], ["ordinal"])
    return pa.table({
        "application": pa.repeat("shop", len(rows)), "query_id": ids.take(chosen), "client_id": clients.take(chosen),
        "session_id": clients.take(chosen), "user_query": typed.take(chosen),
        "action_name": pc.if_else(pa.array(is_click[rows]), "click", "impression"),
        "timestamp": _iso(ms[at[rows]] + 1000 * step[rows]),
        "event_attributes": pa.StructArray.from_arrays([thing, where], ["object", "position"]),
    })  # fmt: skip


def _write(folder: Path, name: str, day: int, table: pa.Table) -> None:
    file = folder / name / f"dt=2024-05-{day + 1:02d}" / "part-0.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, compression="zstd")


def _inputs(folder: Path) -> dict[str, str]:
    file = {"file": "absent", "columns": {}}
    card = {"name": "made", "root": str(folder), "grades": {"E": {"grade": 0, "gain": 1.0}}, "items": file, "queries": file}
    (folder / "card.json").write_text(json.dumps({**card, "judgments": file, "log": {"queries": "ubi_queries", "events": "ubi_events"}}))
    texts = pa.array(["query number 1 with words"])
    judged = {"query_id": ["j1"], "query_text": texts, "query": text.normalise_query(texts), "frequency": pa.array([0], pa.int64())}
    judged |= {"segment": ["unseen"], "kind": pa.array([None], pa.string()), "split": ["train"]}
    tables.write_table(str(folder / "judged"), "queries", pa.table(judged))
    places = {"card": str(folder / "card.json"), "judged-queries": str(folder / "judged")}
    return places | {name: str(folder / name) for name in OUTPUTS}


def measure(num_events: int, threads: int, memory_limit_mib: int, peers: tuple[str, ...]) -> dict[str, Any]:
    """Raw figures of one log, extracted by the room and by its peers."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_log(folder, num_events)
        flags = [word for name, uri in _inputs(folder).items() for word in (f"--{name}", uri)]
        flags += ["--threads", str(threads), "--memory-limit-mib", str(memory_limit_mib), "--window-days", "30"]
        flags += ["--bot-pace-searches", "1000000000"]  # the rule is computed but finds nobody, because the peers do not have it
        read = sum(pq.ParquetFile(file).metadata.num_rows for file in folder.glob("ubi_events/*/*.parquet"))
        size = sum(file.stat().st_size for file in folder.glob("ubi_*/*/*.parquet"))
        figures = _time([sys.executable, "-m", "components.extract_logs", *flags])
        kept = tables.Manifest.read(str(folder / "events")).rows
        others = {}
        for peer in peers:
            (folder / peer).mkdir()
            script = str(Path(__file__).with_name("extract_logs_peers.py"))
            others[peer] = _time([sys.executable, script, peer, str(folder), str(folder / peer), str(threads), str(memory_limit_mib)])
            _compare(folder, peer)
    return {
        "events": read, "kept": kept, "input_mib": round(size / 2**20, 1), **figures,
        "events_per_second": round(read / figures["seconds"]), "peers": others,
    }  # fmt: skip


def _time(command: list[str]) -> dict[str, float]:
    seconds, cpu_seconds, peak_mib = time_command(command)
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "peak_rss_mib": round(peak_mib)}


def _compare(folder: Path, peer: str) -> None:
    """Our interactions are the peer's: the same keys and counts."""
    names = ["query", "item_id", "day", "impressions", "clicks", "clients"]
    order = [(name, "ascending") for name in names[:3]]
    ours = tables.read_table(str(folder / "interactions"), "interactions").sort_by(order)
    theirs = pq.read_table(folder / peer / "interactions.parquet").sort_by(order)
    kinds = ours.select(names).schema
    if not theirs.select(names).cast(kinds).equals(ours.select(names)):
        raise SystemExit(f"{peer} finds other interactions: {theirs.num_rows} rows, ours {ours.num_rows}")
    gap = pc.max(pc.abs(pc.subtract(ours["corrected_impressions"], theirs["corrected"]))).as_py()
    if gap > 1e-6:
        raise SystemExit(f"{peer} corrects otherwise: corrected impressions differ by up to {gap}")


def add_ratios(runs: list[dict[str, Any]]) -> None:
    """Times over the peers', in seconds and CPU seconds, and the exponent of CPU seconds in the events from the size before."""
    for before, run in zip([None, *runs], runs, strict=False):
        run["times_peer"] = {
            name: {unit: round(run[unit] / other[unit], 2) for unit in ("seconds", "cpu_seconds")} for name, other in run["peers"].items()
        }
        if before is not None:
            growth = math.log(run["cpu_seconds"] / before["cpu_seconds"]) / math.log(run["events"] / before["events"])
            run["growth_exponent"] = round(growth, 3)


def main() -> None:
    """Measure every size and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 5_000_000, 25_000_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-limit-mib", type=int, default=768)
    parser.add_argument("--in-memory-up-to", type=int, default=5_000_000, help="larger logs are not given to polars and pandas")
    given = parser.parse_args()
    machine = describe_machine()
    includes = "process start, reading, all tables; the peers: process start, reading, events and interactions"
    settings = {"threads": given.threads, "memory_limit_mib": given.memory_limit_mib, "includes": includes}
    runs: list[dict[str, Any]] = []
    for num_events in given.events:
        peers = PEERS if num_events <= given.in_memory_up_to else PEERS[:1]
        runs.append(measure(num_events, given.threads, given.memory_limit_mib, peers) | {"load_after": round(os.getloadavg()[0], 2)})
        add_ratios(runs)
        save("extract_logs", machine, settings, runs)
        print(json.dumps(runs[-1], indent=1), flush=True)


if __name__ == "__main__":
    main()
