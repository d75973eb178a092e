"""The page of a failed task: what it says, where it lies, how tries are counted, and that a mistake is not looked for again."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.shared import failures
from components.shared.config import StepConfig
from components.shared.errors import InputError, TemporaryError
from components.shared.failures import MAX_BYTES, Attempt, class_of, render
from components.shared.handover import perform
from components.shared.report import Report
from components.shared.spools import read

CALLS: list[int] = []


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A function that performs a step that raises what it is given, as a task of run r1; returns its page."""
    CALLS.clear()
    monkeypatch.setattr(failures, "TERMINATION_LOG", tmp_path / "termination-log")
    summary = SimpleNamespace(path=str(tmp_path / "kfp" / "summary"))

    def perform_one(error, run_id="r1", workspace=f"file://{tmp_path}/w", **config):
        def run(_config, *, tracker):
            CALLS.append(1)
            logging.getLogger("components.pool").warning("shard 7 of 9: title <b>~~~ hf_%s", "a" * 30)
            if error is not None:
                raise error
            return Report()

        monkeypatch.setattr("components.shared.handover._room", lambda _run: tmp_path / "room")
        perform(run, StepConfig, section="pool", config=config, workspace=workspace, run_id=run_id, inputs={}, outputs={},
                pages={"summary": summary})  # fmt: skip

    perform_one.summary, perform_one.folder = Path(summary.path), tmp_path / "w"
    return perform_one


def failed(task, error, **given) -> str:
    with pytest.raises(type(error)):
        task(error, **given)
    return task.summary.read_text()


def test_one_text_lies_in_the_artifact_in_the_workspace_in_mlflows_spool_and_in_the_pods_last_message(task, tmp_path):
    (tmp_path / "termination-log").touch()
    page = failed(task, TemporaryError("bucket answered 503"))
    kept = task.folder / "failures/r1/pool/attempt-1.md"
    lines = read(task.folder / "tracking/r1/pool.jsonl")
    assert kept.read_text() == (tmp_path / "termination-log").read_text() == page
    assert [line["values"] for line in lines if line["kind"] == "tags"] == [{"failure": page}]
    assert [line["uri"] for line in lines if line["kind"] == "artifact"] == [f"file://{kept}"]
    assert [line["status"] for line in lines if line["kind"] == "end"] == ["FAILED"]


def test_the_page_says_what_failed_how_and_how_to_go_on(task):
    try:
        try:
            raise ConnectionResetError("peer went away")
        except ConnectionResetError as cause:
            raise TemporaryError("cannot read 'gs://b/x'") from cause
    except TemporaryError as error:
        page = failed(task, error)
    assert page.startswith("# pool failed\n")
    for row in ("| run | r1 |", "| attempt | 1 |", "| exit class | temporary (exit code 75): trouble outside that may pass |"):
        assert row in page
    assert "TemporaryError: cannot read 'gs://b/x'\nbecause of ConnectionResetError: peer went away\n~~~\n" in page
    assert "Raised in `tests/shared/test_failures.py`" in page
    assert "WARNING components.pool: shard 7 of 9" in page
    assert "give the same command again" in page


def test_on_a_cluster_the_page_names_the_command_that_resumes():
    page = render(Attempt("gs://bucket/w", "run-7", "pool", number=1), InputError("column 'x' is missing"), [])
    assert "Mend what the root error names, then `python -m pipelines resume run-7`:" in page
    assert "| this page | gs://bucket/w/failures/run-7/pool/attempt-1.md |" in page


def test_nothing_in_a_log_line_is_markup_and_no_key_is_told(task):
    page = failed(task, ValueError("token hf_" + "b" * 30))
    assert page.count("~~~") == 4  # two blocks, neither ended by a line of the log
    assert "hf_" not in page
    assert "ValueError: token [hidden]" in page


def test_a_line_that_cannot_be_formatted_breaks_no_task(monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own raises on such a line
    with failures.last_lines() as lines:
        logging.getLogger("components.pool").warning("%d pairs", "many")
        logging.getLogger("components.pool").warning("three\nlines\nlong")
    assert [line.rpartition(": ")[2] for line in lines] == ["three", "lines", "long"]
    logging.getLogger("components.pool").warning("after the task")
    assert len(lines) == 3


def test_a_long_story_is_cut_from_its_old_lines(task):
    lines = [f"line {number} {'é' * 400}" for number in range(100)]
    page = render(Attempt("gs://bucket/w", "run-7", "pool", number=1), ValueError("x" * 5000), lines)
    assert MAX_BYTES - 700 < len(page.encode()) <= MAX_BYTES
    assert "line 99 " in page
    assert "line 90 " not in page
    assert "How to resume" in page
    assert page.endswith("~~~\n")


def test_tries_are_counted_and_a_killed_one_is_told_by_the_next(task):
    Attempt(f"file://{task.folder}", "r1", "pool").begin()  # and then the pod was deleted
    second = failed(task, TemporaryError("again"))
    assert "| attempt | 2; the one before left no word: killed, out of memory or preempted |" in second
    assert "| attempt | 3; the one before ended as: temporary |" in failed(task, TemporaryError("again"))
    assert "| attempt | 1 |" in failed(task, TemporaryError("other run"), run_id="r2")


def test_a_try_that_ends_well_leaves_the_pages_of_those_that_failed_and_nothing_else(task):
    failed(task, TemporaryError("once"))
    task(None)
    assert sorted(file.name for file in (task.folder / "failures/r1/pool").iterdir()) == ["attempt-1.json", "attempt-1.md"]


def test_members_of_a_task_count_their_own_tries(tmp_path):
    for name in ("scoring-1", "scoring-2"):
        attempt = Attempt(str(tmp_path), "r1", name)
        attempt.begin()
        assert attempt.number == 1


def test_a_mistake_is_not_looked_for_again_in_the_same_run_but_soon_after(task, monkeypatch):
    mistake = InputError("grade 7 is not on the card")
    failed(task, mistake)
    assert "grade 7 is not on the card" in failed(task, mistake)
    assert len(CALLS) == 1  # kfp's second try asked nothing
    failed(task, mistake, run_id="r2")
    assert len(CALLS) == 2
    monkeypatch.setattr(failures, "RETRY_WINDOW_S", 0)  # a person pressed Retry later
    failed(task, mistake)
    assert len(CALLS) == 3


def test_trouble_that_may_pass_is_tried_again(task):
    failed(task, TemporaryError("503"))
    failed(task, TemporaryError("503"))
    assert len(CALLS) == 2


def test_settings_that_are_wrong_and_addresses_that_cannot_be_found_leave_a_page_too(task, tmp_path):
    with pytest.raises(InputError, match="unknown key 'depth'"):
        task(None, depth=3)
    assert "unknown key 'depth'" in task.summary.read_text()

    def away() -> str:
        raise TemporaryError("no answer from the registry")

    with pytest.raises(TemporaryError):
        perform(lambda *_a, **_k: Report(), StepConfig, section="pool", config={}, workspace=str(tmp_path / "w"), run_id="r9",
                inputs={}, outputs={}, values={"model": away})  # fmt: skip
    assert "no answer from the registry" in (tmp_path / "w/failures/r9/pool/attempt-1.md").read_text()


def test_a_workspace_that_is_away_hides_no_error(task, gcs):
    gcs.denied = 403
    page = failed(task, InputError("x"), workspace="gs://bucket/w")
    assert "storage refuses the request" in page  # the root error: the workspace itself
    assert "| attempt | 0 |" in page


@pytest.mark.parametrize(
    ("error", "kind"),
    [(InputError("x"), "input"), (TemporaryError("x"), "temporary"), (KeyboardInterrupt(), "interrupted"), (SystemExit(143), "interrupted"),
     (MemoryError(), "memory"), (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "memory"), (KeyError("x"), "fault")],
)  # fmt: skip
def test_each_error_has_its_class(error, kind):
    assert class_of(error) == kind


def test_an_error_raised_from_memory_trouble_is_memory_trouble_and_from_none_forgets_its_past():
    wrapped, alone = RuntimeError("batch failed"), InputError("y")
    wrapped.__cause__ = MemoryError()
    alone.__context__, alone.__suppress_context__ = KeyError("k"), True
    assert class_of(wrapped) == "memory"
    assert failures.chain(alone) == [alone]
