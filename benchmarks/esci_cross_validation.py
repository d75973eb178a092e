"""Is the student better than BM25 and the untrained encoder on real judgments? Cross-validation by query over train and dev.

    python benchmarks/esci_cross_validation.py [--data ../shared/data/esci] [--folds 3] [--only 1] [--arms with_evidence] [--set ...]

Fold 0 is the data set's own split: trained on train, evaluated on dev. The recipe's settings were chosen on it, so it is evaluated on
demand only (`--only 0 1 2`). The other folds divide the train queries, which no recipe setting was chosen on: each is evaluated once, by
models that were trained on all other queries, dev included.
The whole pipeline runs once per fold and arm: with the log as it is, and with `logs.hide_evaluated_queries=true`, because the clicks of
that log are drawn from the judgments. Queries that share two judged items or half of their words stay in one fold; a fold's queries are
split `dev` and never trained on. Finished folds are reused. Writes `results/esci_cross_validation.json`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import describe_machine, save
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from components.shared import metrics, storage

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "runs/cross_validation"
ARMS = {"with_evidence": "false", "without_evidence": "true"}
SYSTEMS = ("bm25", "untrained", "teacher", "cross_encoder", "bi_encoder")
COMPARED = [(student, base) for student in ("cross_encoder", "bi_encoder") for base in ("bm25", "untrained", "teacher")]


def folds_of(data: Path, num_folds: int) -> dict[int, int]:
    """query_id -> fold: 0 for dev, the others for train; near-duplicates share one, and folds 1 and up are of similar size."""
    queries = pq.read_table(data / "queries.parquet").to_pandas()
    dev = set(queries["query_id"][queries["split"] == "dev"])
    queries = queries[queries["split"] == "train"].reset_index(drop=True)
    judged = pq.read_table(data / "judgments.parquet").to_pandas().groupby("query_id")["product_id"].agg(set)
    words = [set(text.split()) for text in queries["query"]]
    items = [judged[query_id] for query_id in queries["query_id"]]
    links = [
        (a, b)
        for a in range(len(queries))
        for b in range(a)
        if len(items[a] & items[b]) >= 2 or 2 * len(words[a] & words[b]) >= max(len(words[a] | words[b]), 1)
    ]
    rows, columns = zip(*links, strict=True) if links else ((), ())
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(len(queries), len(queries)))
    _, groups = connected_components(graph, directed=False)
    order = np.random.default_rng(0).permutation(groups.max() + 1)
    sizes, fold_of_group = np.zeros(num_folds - 1, int), {}
    for group in sorted(order, key=lambda g: -np.sum(groups == g)):
        fold_of_group[group] = 1 + int(sizes.argmin())
        sizes[sizes.argmin()] += np.sum(groups == group)
    train = {query_id: fold_of_group[group] for query_id, group in zip(queries["query_id"], groups, strict=True)}
    return train | dict.fromkeys(dev, 0)


def fold_data(data: Path, folder: Path, fold: int, folds: dict[int, int]) -> Path:
    """A data folder in which the fold's queries are `dev` and all others `train`."""
    if fold == 0:
        return data
    if (folder / "judgments.parquet").exists():  # written last; its change time is part of what steps are reused by
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "logs").exists():
        (folder / "logs").symlink_to((data / "logs").resolve())
    shutil.copy(data / "products.parquet", folder)
    for name in ("queries.parquet", "judgments.parquet"):
        table = pq.read_table(data / name)
        split = ["dev" if folds[query_id] == fold else "train" for query_id in table["query_id"].to_pylist()]
        position = table.column_names.index("split")
        pq.write_table(table.set_column(position, "split", pa.array(split)), folder / name)
    return folder


def run_fold(data: Path, workspace: Path, hide: str, settings: list[str]) -> tuple[pa.Table, float | None]:
    """(per-query metrics of the fold, seconds that its first run took; None where that one was broken off)."""
    is_first = not (workspace / "kfp").exists()
    # every fold starts without a champion, so that no fold's model is scored on queries it was trained on
    own_registry = [f"ranking.model=models:/{workspace.name}@champion", f"promotion.model_name={workspace.name}"]
    overrides = [*settings, f"logs.hide_evaluated_queries={hide}", *own_registry]
    command = [sys.executable, "-m", "pipelines", "run", "--recipe", "esci_cpu", "--data", str(data), "--workspace", str(workspace)]
    started = time.time()
    subprocess.run([*command, *(part for one in overrides for part in ("--set", one))], check=True, cwd=ROOT)
    first = workspace / "seconds"
    if is_first:
        first.write_text(str(time.time() - started))
    kfp = max((workspace / "kfp").iterdir(), key=lambda run: run.name)
    (address,) = kfp.glob("*/evaluate-rankings/evaluation")
    folder = storage.local_path(json.loads(address.read_text())["uri"])
    return pq.read_table(folder / "per_query.parquet"), float(first.read_text()) if first.exists() else None


def summarise(
    values: pa.Table, systems: Sequence[str] = SYSTEMS, compared: Sequence[tuple[str, str]] = tuple(COMPARED)
) -> dict[str, dict[str, Any]]:
    """Means with intervals, and paired differences, over all queries of one arm."""
    means, differences = {}, {}
    for metric in metrics.metric_names():
        for system in systems:
            column = metrics.values_of(values, system, metric)["value"].to_numpy()
            means[f"{system}.{metric}"] = vars(metrics.mean_interval(column, seed=0))
        for system, base in compared:
            _, ours, theirs = metrics.common_values(values, system, base, metric)
            differences[f"{system}-{base}.{metric}"] = vars(metrics.paired_interval(ours, theirs, seed=0))
    return {"means": means, "differences": differences}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/esci")
    parser.add_argument("--folds", type=int, default=3, help="2 or more; fold 0 is the data set's own split")
    parser.add_argument("--only", type=int, nargs="+", default=[], metavar="FOLD", help="these folds; default: all but 0")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="so that two arms can run at the same time")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    given = parser.parse_args()
    if given.folds < 2:
        parser.error("--folds must be 2 or more: fold 0 is the data set's own split")
    folds = folds_of(given.data, given.folds)
    machine, seconds, arms = describe_machine(), {}, {}
    for arm, hide in ((arm, ARMS[arm]) for arm in given.arms):
        parts = {}
        for fold in given.only or range(1, given.folds):
            data = fold_data(given.data, PLACE / f"data-{given.folds}-{fold}", fold, folds)
            values, took = run_fold(data, PLACE / f"esci-{arm}-{given.folds}-{fold}".replace("_", "-"), hide, given.set)
            seconds[f"{arm}.{fold}"] = took and round(took, 1)
            parts[fold] = values
        of_split = {"train": [values for fold, values in parts.items() if fold], "dev": [parts[0]] if 0 in parts else []}
        if all(of_split.values()):
            of_split["train and dev"] = list(parts.values())
        arms[arm] = {split: summarise(pa.concat_tables(tables)) for split, tables in of_split.items() if tables}
    save("esci_cross_validation", machine, {"folds": given.folds, "only": given.only, "set": given.set}, {"seconds": seconds, "arms": arms})
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
