"""How many searches of bots are found, and how many of people are lost: python benchmarks/bots.py [--sessions 9500]

Simulates a shop whose log has 1, 5 and 20 bot searches per 100 of people, extracts it with the default rules, and compares what is
left with the simulator's own list of bot sessions. Writes benchmarks/results/bots.json. The simulated bots are simple ones (about one
search a second; a scraper that clicks nothing, a click bot that stays on the top three): the figures say that the rules do what they
say at every share, not that a careful bot is found.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from machine import describe_machine, save

from components.extract_logs import codes, privacy
from components.extract_logs.bots import RULES
from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.step import run
from components.shared import tables, text
from components.shared.tracking import NullTracker
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.step import run as simulate

SHARES = (0.01, 0.05, 0.20)
OUTPUTS = ("events", "interactions", "queries", "reformulations", "lineage")


def measure(share: float, num_sessions: int) -> dict[str, Any]:
    """Precision and recall in searches with at least one event, at one share of bots."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shop = SimulateShopConfig.from_mapping({"bot_share": share, "num_sessions": num_sessions}, section="shop")
        simulate(shop, dataset=str(folder / "shop"), tracker=NullTracker())
        config = ExtractLogsConfig.from_mapping({"min_clients": 1}, section="logs")  # so that only bots and bad rows are dropped
        places = _inputs(folder, folder / "shop")
        report = run(config, tracker=NullTracker(), **places)
        kept = tables.read_table(places["events"], "events", ["session_id"])["session_id"]
        truth = pq.read_table(folder / "shop/truth/bot_sessions.parquet")["session_id"]
        logged = ds.dataset(folder / "shop/logs/ubi_events").to_table(["query_id", "session_id"]).drop_null()
        searches = logged.group_by(["query_id", "session_id"]).aggregate([])
    salt, _ = privacy.read_salt(config.client_salt_variable)
    published = codes.hex_codes(codes.encoder(salt)(searches["session_id"].cast(pa.string())))
    removed = pc.invert(pc.is_in(published, pc.unique(kept)))
    is_bot = pc.is_in(searches["session_id"], pc.unique(truth).cast(searches["session_id"].type)).combine_chunks()
    hits, found, true = (pc.sum(mask).as_py() for mask in (pc.and_(removed, is_bot), removed, is_bot))
    return {
        "bot_share": share, "searches": searches.num_rows, "bot_searches": true, "removed_searches": found,
        "recall": round(hits / true, 4), "precision": round(hits / found, 4) if found else 1.0,
        "people_lost": round((found - hits) / (searches.num_rows - true), 5),
        "clients": {rule: int(report.metrics[f"bots.{rule}"]) for rule in RULES},
    }  # fmt: skip


def _inputs(folder: Path, shop: Path) -> dict[str, str]:
    file = {"file": "absent", "columns": {}}
    card = {"name": "made", "root": str(shop), "grades": {"E": {"grade": 0, "gain": 1.0}}, "items": file, "queries": file}
    (folder / "card.json").write_text(
        json.dumps({**card, "judgments": file, "log": {"queries": "logs/ubi_queries", "events": "logs/ubi_events"}})
    )
    texts = pa.array(["no query of this shop"])
    judged = {"query_id": ["j1"], "query_text": texts, "query": text.normalise_query(texts), "frequency": pa.array([0], pa.int64())}
    judged |= {"segment": ["unseen"], "kind": pa.array([None], pa.string()), "split": ["train"]}
    tables.write_table(str(folder / "judged"), "queries", pa.table(judged))
    return {"card": str(folder / "card.json"), "judged_queries": str(folder / "judged")} | {name: str(folder / name) for name in OUTPUTS}


def main() -> None:
    """Measure every share and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=9500, help="sessions of people over seven days")
    given = parser.parse_args()
    machine = describe_machine()
    runs = [measure(share, given.sessions) for share in SHARES]
    save("bots", machine, {"sessions": given.sessions, "unit": "searches with at least one event"}, runs)
    print(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main()
