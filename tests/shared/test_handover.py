"""The hand-over: addresses filled in, work done once, spools replayed, changed input in a fresh folder, killed steps go on."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import Field

from components.shared import handover, storage
from components.shared.config import StepConfig
from components.shared.errors import InputError
from components.shared.handover import perform
from components.shared.report import Report


class Example(StepConfig):
    factor: int = Field(2, description="Times.")


CALLS: list[dict[str, str]] = []


def run(config, *, numbers, doubled, tracker, label=""):
    CALLS.append({"numbers": numbers, "doubled": doubled, "label": label})
    values = json.loads(storage.read_bytes(numbers.split(",")[0] + "/n.json"))
    if storage.exists(doubled + "/half") and label == "dies":
        raise KeyboardInterrupt
    storage.write_bytes(doubled + "/half", b"")
    if label == "dies":
        raise KeyboardInterrupt
    if label == "writes nothing":
        storage.remove(doubled)
        return Report()
    storage.write_json(doubled + "/n.json", [value * config.factor for value in values])
    storage.write_bytes(doubled.rsplit("/", 1)[0] + "/report.html", b"<p>ok</p>")
    tracker.headline({"score": 1.5})
    return Report(read=3, kept=2, dropped={"too|big": 1}, metrics={"mean": 0.25}, notes={"where": "a|b"})


@pytest.fixture
def door(tmp_path):
    """A function that performs the step as a kfp task would; returns (report, output artifact, summary text)."""
    CALLS.clear()

    def artifact(name):
        return SimpleNamespace(path=str(tmp_path / "kfp" / name), metadata={})

    def given(name, values):
        storage.write_json(str(tmp_path / name / "n.json"), values)
        made = artifact(name)
        address = {"uri": f"file://{tmp_path / name}", "digest": storage.content_digest(str(tmp_path / name)), "rows": 0}
        storage.write_json(made.path, address)
        return made

    def perform_one(values=(1, 2), run_id="r1", config=None, label="", several=()):
        numbers = [given("a", list(values)), given("b", list(several))] if several else given("a", list(values))
        output, pages = artifact("doubled"), {"summary": artifact("summary.md"), "report.html": artifact("report.html")}
        report = perform(
            run, Example, section="double", config=config or {}, workspace=str(tmp_path / "w"), run_id=run_id,
            inputs={"numbers": numbers}, outputs={"doubled": output}, pages=pages, values={"label": label} if label else None,
        )  # fmt: skip
        return report, output, {name: Path(page.path).read_text() for name, page in pages.items()}

    perform_one.workspace = tmp_path / "w"
    return perform_one


def spool(door, run_id):
    return [json.loads(line) for line in (door.workspace / "tracking" / run_id / "double.jsonl").read_text().splitlines()]


def test_output_address_pages_and_spool(door):
    report, output, pages = door(config={"factor": 3.0})
    address = json.loads(Path(output.path).read_text())
    assert address == output.metadata
    assert address["uri"] == CALLS[0]["doubled"]
    assert address["uri"].startswith(f"file://{door.workspace}/double/")
    assert address["digest"] == storage.content_digest(address["uri"])
    assert storage.read_json(address["uri"] + "/n.json") == [3, 6]
    assert report.metrics == {"mean": 0.25}
    assert pages["report.html"] == "<p>ok</p>"
    assert pages["summary"] == (
        "# double\n\n| name | value |\n|---|---|\n| read | 3 |\n| kept | 2 |\n| quarantined | 0 |\n| dropped.too/big | 1 |\n"
        "| mean | 0.25 |\n| where | a/b |\n"
    )
    lines = spool(door, "r1")
    assert [line["kind"] for line in lines] == ["start", "params", "headline", "metrics", "end"]
    assert lines[1]["values"] == {"double.factor": 3}
    assert lines[3]["values"]["double.dropped.too|big"] == 1.0
    assert 0 <= lines[3]["values"]["double.seconds"] < 60
    assert lines[4]["status"] == "FINISHED"


def test_second_call_reuses_and_replays_the_spool(door):
    first = door(run_id="r1")
    second = door(run_id="r2")
    assert len(CALLS) == 1
    assert (second[0], second[1].metadata, second[2]) == (first[0], first[1].metadata, first[2])
    replayed = spool(door, "r2")
    assert replayed[:-1] == spool(door, "r1")
    assert (replayed[-1]["kind"], replayed[-1]["values"]) == ("tags", {"reused": "true"})


def test_changed_input_settings_or_value_go_to_another_folder(door):
    places = {door()[1].metadata["uri"] for _ in range(2)}
    for change in ({"values": (1, 3)}, {"config": {"factor": 5}}, {"label": "x"}, {"several": [9]}, {"several": [8]}):
        places.add(door(**change)[1].metadata["uri"])
    assert len(places) == 6
    assert len(CALLS) == 6


def test_a_value_that_names_a_folder_stands_for_what_lies_there(door, tmp_path):
    folder = (tmp_path / "data").as_uri()
    places = [door(label=folder)[1].metadata["uri"]]
    for content in (b"one", b"another"):
        storage.write_bytes(folder + "/log.csv", content)
        places += [door(label=folder)[1].metadata["uri"] for _ in range(2)]
    assert (places[1], places[3]) == (places[2], places[4])
    assert len({places[0], places[1], places[3]}) == len(CALLS) == 3


def test_an_output_that_is_a_table_is_known_by_its_manifest(tmp_path):
    def makes_a_table(config, *, numbers, doubled, tracker):
        storage.write_json(doubled + "/manifest.json", {"digest": "d" * 64, "rows": 7})
        return Report()

    made = SimpleNamespace(path=str(tmp_path / "kfp" / "doubled"), metadata={})
    perform(
        makes_a_table, Example, section="double", config={}, workspace=str(tmp_path / "w"), run_id="r1", inputs={},
        outputs={"doubled": made}, values={"numbers": "none"},
    )  # fmt: skip
    assert (made.metadata["digest"], made.metadata["rows"]) == ("d" * 64, 7)


def test_changed_code_or_report_frame_goes_to_another_folder(door, tmp_path, monkeypatch):
    monkeypatch.setattr(handover, "_room", lambda _run: tmp_path / "room")
    places = []
    for file, content in (("step.py", "one"), ("step.py", "two"), ("report.html", "<p>"), ("README.md", "words")):
        storage.write_bytes(str(tmp_path / "room" / file), content.encode())
        places.append(door()[1].metadata["uri"])
    assert len(set(places)) == 3
    assert places[3] == places[2]  # a page about the room changes nothing that it makes


def test_a_change_of_what_settings_name_goes_to_another_folder(door, monkeypatch):
    places = []
    for salt in ("one", "two", "one"):
        monkeypatch.setattr(Example, "references", lambda _self, salt=salt: {"salt": salt})
        places.append(door()[1].metadata["uri"])
    assert places[0] == places[2] != places[1]


def test_list_of_artifacts_becomes_joined_addresses(door):
    door(several=[9])
    first, second = CALLS[0]["numbers"].split(",")
    assert (first.rsplit("/", 1)[1], second.rsplit("/", 1)[1]) == ("a", "b")


def test_killed_step_goes_on_in_its_folder(door):
    for _ in range(2):  # the second attempt finds what the first left
        with pytest.raises(KeyboardInterrupt):
            door(label="dies")
    assert CALLS[0] == CALLS[1]
    lines = spool(door, "r1")
    assert [line["status"] for line in lines if line["kind"] == "end"] == ["FAILED", "FAILED"]
    assert all("KeyboardInterrupt" in line["error"] for line in lines if line["kind"] == "end")


def test_step_without_output_is_no_success(door):
    for run_id in ("r1", "r2"):  # nor does a second try re-use it
        with pytest.raises(InputError, match="without writing its output 'doubled'"):
            door(label="writes nothing", run_id=run_id)
    assert len(CALLS) == 2


def test_deleted_output_is_made_again(door):
    place = door()[1].metadata["uri"]
    storage.remove(place)
    assert door()[1].metadata["uri"] == place
    assert len(CALLS) == 2
    assert storage.read_json(place + "/n.json") == [2, 4]


def test_wrong_settings_stop_before_the_step(door):
    with pytest.raises(InputError, match="section 'double': unknown key 'faktor'; known keys: factor"):
        door(config={"faktor": 3})
    assert CALLS == []
