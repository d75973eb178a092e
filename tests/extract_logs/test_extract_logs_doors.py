"""The command line and the kfp component give the table that the step gives."""

import json
import subprocess
import sys
from types import SimpleNamespace

from tiny_ubi import DAY, event, search, write_inputs, write_lines

from components.extract_logs.component import extract_logs
from components.shared import storage, tables

ROWS = [event("q1", "a"), event("q1", "b", position=2), event("q1", "b", "click", 2)]
EXPECTED = [("red shoes", "a", 1, 0, 1.0), ("red shoes", "b", 1, 1, 0.5)]


def _shop(folder):
    write_lines(folder / "shop/ubi_events/part-0.ndjson.gz", ROWS)
    write_lines(folder / "shop/ubi_queries/part-0.ndjson.gz", [search("q1", "red shoes")])
    return write_inputs(folder / "work", folder / "shop", {"j1": ("red shoes", "train")})


def _interactions(uri):
    return [
        (row["query"], row["item_id"], row["impressions"], row["clicks"], row["corrected_impressions"])
        for row in tables.read_table(uri, "interactions").to_pylist()
    ]


def _command_line(places, *flags):
    given = [word for name, uri in places.items() for word in (f"--{name.replace('_', '-')}", uri)]
    command = [sys.executable, "-m", "components.extract_logs", *given, *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_line(tmp_path):
    places = _shop(tmp_path)
    done = _command_line(places, "--min-clients", "1", "--date", DAY)
    assert done.returncode == 0, done.stderr
    assert _interactions(places["interactions"]) == EXPECTED
    assert "2024-04-13 to 2024-05-10" in done.stdout


def test_command_line_refuses_a_placeholder_in_one_line(tmp_path):
    done = _command_line(_shop(tmp_path), "--date", "[[CurrentTime.2006-01-02]]")
    assert done.returncode == 2
    assert done.stderr == (
        "error: date '[[CurrentTime.2006-01-02]]' is a schedule placeholder that was not filled in; "
        "give YYYY-MM-DD, or '' for the log's last day\n"
    )


def test_kfp_door_does_the_work_once(tmp_path):
    places = _shop(tmp_path)

    def given(name):
        file = tmp_path / f"{name}.address"
        file.write_text(json.dumps({"uri": places[name], "digest": storage.content_digest(places[name])}))
        return SimpleNamespace(path=str(file), metadata={})

    for attempt in ("one", "two"):
        outputs = {
            name: SimpleNamespace(path=str(tmp_path / attempt / name), metadata={})
            for name in ("events", "interactions", "queries", "reformulations", "lineage", "summary")
        }
        extract_logs.python_func(
            config={"min_clients": 1.0}, section="logs", workspace=str(tmp_path / "workspace"), run_id=attempt, date=DAY,
            card=given("card"), judged_queries=given("judged_queries"), **outputs,
        )  # fmt: skip
        assert _interactions(outputs["interactions"].metadata["uri"]) == EXPECTED
        assert "| kept | 3 |" in (tmp_path / attempt / "summary").read_text()
    assert len(list((tmp_path / "workspace/logs").iterdir())) == 1
