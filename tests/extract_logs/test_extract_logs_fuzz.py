"""Malformed rows by the thousand (in every test run) and by the million (nightly): no crash, and every row is counted once."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_ga4 import as_bigquery_json, happening
from tiny_ubi import DAY, event, search, write_lines

from components.extract_logs.staging import IGNORED

SIZES = [pytest.param(6_700, id="slice"), pytest.param(520_000, id="million", marks=pytest.mark.nightly)]  # each of three layouts
TIME = f"{DAY}T10:00:01Z"
MOMENTS = (TIME, 1_715_335_200_250, "", "yesterday", -1, 5, "2024-02-30T00:00:00Z", 1e300, "NaN", "1e400", None, True, [1], {"a": 1})
WORDS = (None, "", " ", "\0", "\ud800", "ÿ", "a\0b", "'; --", "9" * 400, 0, -1, 2**63, 1e308, True, [], {}, [None], {"object_id": {}})
ORDINALS = (None, 0, -3, 1, "2", "x", 1.5, 10**9, 2**31 - 1, -(2**31), 2**40, "1e3", [1], True)


def _lines(rng, size, good, faults):
    """(lines, expected counts): the `good` line, lines of one known fault, and lines cut, spliced and scrambled at random."""
    lines, expected = [], Counter()
    for kind, number in zip(rng.choice([*faults, "good", "wild", "cut", "noise"], size), range(size), strict=True):
        if kind in faults:
            row = faults[kind](rng, number)
        elif kind == "wild":
            row = good(number) | {name: WORDS[rng.integers(len(WORDS))] for name in rng.choice(list(good(0)), 2)}
        else:
            row = good(number)
        line = json.dumps(row).encode()
        if kind == "cut":
            line = line[: rng.integers(1, len(line) - 1)]
        if kind == "noise":
            at = int(rng.integers(len(line)))
            line = line[:at] + rng.bytes(int(rng.integers(1, 6))).translate(None, b"\n\r") + line[at + 2 :]
        expected[kind] += 1
        lines.append(line)
    return lines, expected


def _check(got, num_rows, expected, known):
    """`known` faults at least, the good rows among the kept, and all sums exact."""
    report = got.report
    faults = {name.removeprefix("malformed."): int(n) for name, n in report.metrics.items() if name.startswith("malformed.")}
    assert report.read == num_rows == report.kept + sum(report.dropped.values()) + sum(faults.values())
    assert report.quarantined == sum(faults.values())
    events = got.table("events")
    assert len(events) == report.kept
    assert {row["item_id"] for row in events if row["item_id"].startswith("good")} >= {f"good{n}" for n in known.pop("good")}
    for fault, kinds in known.items():
        count = report.dropped[fault] if fault == IGNORED else faults.get(fault, 0)
        assert count >= sum(expected[kind] for kind in kinds), fault
    shown = pq.read_table(got.folder / "lineage/quarantine.parquet")["reason"].value_counts().to_pylist()
    assert {one["values"]: one["counts"] for one in shown} == {fault: min(count, 50) for fault, count in faults.items()}


UBI_FAULTS = {
    "action": lambda rng, n: event("q1", f"i{n}", rng.choice(["clik", "IMPRESSION", "☃"])),
    "ignored": lambda rng, n: event("q1", f"i{n}", "search"),
    "item": lambda rng, n: event("q1", ""),
    "nobody": lambda rng, n: event(None, f"i{n}"),
    "place": lambda rng, n: event("q1", f"i{n}", position=int(rng.choice([0, -1, 10**7, 2**31 - 1, -(2**31), 2**63 - 1]))),
    "time": lambda rng, n: event("q1", f"i{n}", timestamp=rng.choice(["soon", "2024-13-01", "0", "99999999999999999999"])),
}


@pytest.mark.parametrize("size", SIZES)
def test_lines_of_ubi(extract, size):
    def good(n):
        return event("q1", f"good{n}", timestamp=TIME)

    rng = np.random.default_rng(5)
    lines, expected = _lines(rng, size, good, UBI_FAULTS)
    lines += [json.dumps(good(n)).encode() for n in range(size, size + 50)]
    got = extract(lines, [search("q1", "red shoes")], date=DAY, max_quarantine_rows=50, bot_impressions=10**9)
    known = {"unknown_action": ["action"], IGNORED: ["ignored"], "empty_item": ["item"], "no_query_id": ["nobody"],
             "bad_position": ["place"], "bad_timestamp": ["time"], "unreadable": ["cut"]}  # fmt: skip
    _check(got, len(lines), expected, known | {"good": range(size, size + 50)})


@pytest.mark.parametrize("size", SIZES)
def test_lines_of_ga4(extract, tmp_path, size):
    def good(n):
        return as_bigquery_json(happening("view_item_list", n % 3000, items=[(f"good{n}", 1)]))

    faults = {
        "ignored": lambda rng, n: as_bigquery_json(happening("page_view", 1)),
        "item": lambda rng, n: as_bigquery_json(happening("view_item_list", 1)),
        "place": lambda rng, n: as_bigquery_json(happening("view_item_list", 1, items=[("a", -5)])),
        "time": lambda rng, n: good(n) | {"event_timestamp": "soon"},
        "searches": lambda rng, n: as_bigquery_json(happening("search", int(rng.integers(3000)), search_term="red shoes")),
    }
    lines, expected = _lines(np.random.default_rng(6), size, good, faults)
    lines += [json.dumps(good(n)).encode() for n in range(size, size + 50)]
    lines.append(json.dumps(as_bigquery_json(happening("search", 0, search_term="red shoes"))).encode())
    write_lines(tmp_path / "ga4/events_20240510.ndjson", lines)
    log = {"format": "ga4", "events": "ga4", "queries": ""}
    got = extract(root=tmp_path, log=log, date=DAY, max_quarantine_rows=50, bot_searches_per_minute=1e9, bot_impressions=10**9)
    known = {IGNORED: ["ignored", "searches"], "empty_item": ["item"], "bad_position": ["place"], "bad_timestamp": ["time"],
             "unreadable": ["cut"]}  # fmt: skip
    _check(got, len(lines), expected, known | {"good": range(size, size + 50)})


@pytest.mark.parametrize("size", SIZES)
def test_values_of_parquet(extract, tmp_path, size):
    rng = np.random.default_rng(7)

    def drawn(values, share=0.5, usual=None):
        odd = rng.random(size) < share
        picks = rng.integers(len(values), size=size)
        return [_plain(values[pick]) if is_odd else usual for pick, is_odd in zip(picks, odd, strict=True)]

    columns = {
        "query_id": drawn(WORDS, 0.1, "q1"), "client_id": drawn(WORDS, 0.3, "c1"), "action_name": drawn(WORDS, 0.1, "click"),
        "timestamp": drawn(MOMENTS, 0.2, TIME), "user_query": drawn(WORDS, 0.3, None),
    }  # fmt: skip
    texts = [json.dumps({"object": {"object_id": item}, "position": {"ordinal": ordinal}}) for item in WORDS for ordinal in ORDINALS]
    columns["event_attributes"] = drawn([*texts, "{", "", "null", "[]", "\0"], 0.8, texts[0].replace("null", '"i"', 1))
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    good = [event("q1", f"good{n}", "click", timestamp=TIME) for n in range(50)]
    best = {name: [json.dumps(row.get(name)) if name == "event_attributes" else row.get(name) for row in good] for name in columns}
    table = pa.concat_tables([table, pa.table({name: pa.array(values, pa.string()) for name, values in best.items()})])
    (tmp_path / "ubi_events").mkdir()
    pq.write_table(table, tmp_path / "ubi_events/part-0.parquet")
    write_lines(tmp_path / "ubi_queries/part-0.ndjson", [search("q1", "red shoes")])
    got = extract(root=tmp_path, date=DAY, max_quarantine_rows=50, bot_clicks=10**9)
    _check(got, size + 50, Counter(), {"good": range(50)})
    assert {"no_query_id", "unknown_action", "empty_item", "bad_position", "bad_timestamp"} <= {
        name.removeprefix("malformed.") for name, count in got.report.metrics.items() if name.startswith("malformed.") and count
    }


def _plain(value):
    text = value if isinstance(value, str) or value is None else json.dumps(value)
    return None if text is None else text.encode("utf-8", "replace").decode()
