"""The command-line door: flags from settings and arguments, exit codes, one-line errors, what is printed."""

import logging
import time

import pytest
from pydantic import Field

from components.shared import cli
from components.shared.config import StepConfig
from components.shared.errors import InputError, TemporaryError
from components.shared.report import Report
from components.shared.tracking import Tracker


class Example(StepConfig):
    epochs: int = Field(1, ge=1, description="Passes; 100% of them.")
    system: str = Field("s", description="Name.")
    names: list[str] = Field(["a"], description="Names.")
    model: str = Field("", description="Also an argument of run.")


def run(config: Example, *, items: str, out: str = "", model: str = "", tracker: Tracker) -> Report:
    tracker.metrics({"x": 1.0})
    if items == "slow":
        logging.getLogger("components.room").info("[half] of it, 9.5 pairs/s")
        time.sleep(0.3)
    if items == "far":
        logging.getLogger("components.room").info("step 1/4, 9 s left")
        time.sleep(0.3)
    if items == "bad":
        raise InputError("items 'bad' is bad; give a good one")
    if items == "away":
        raise TemporaryError("storage is away; try again")
    notes = {"config": f"{config.epochs} {config.system} {config.names} {config.model}", "model": model, "title": "[/b] [red]x"}
    return Report(read=5, kept=3, dropped={"bot": 2}, metrics={"ndcg@10": 0.51234567}, notes=notes)


def test_flags_reach_settings_and_arguments(capsys):
    flags = ["--items", "i", "--epochs", "3", "--system", "007", "--names", "[b, c]", "--model", "m"]
    assert cli.main(run, Example, "x", flags) == 0
    printed = capsys.readouterr().out
    assert "config: 3 007 ['b', 'c'] \n" in printed
    assert "model: m\n" in printed
    assert "title: [/b] [red]x\n" in printed  # a seller's title is not console markup
    for cell in ("read", "5", "kept", "3", "dropped.bot", "2", "ndcg@10", "0.512346"):
        assert cell in printed
    assert "items: i\n" in printed


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_what_the_step_said_last(capsys, monkeypatch, terminal):
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
    monkeypatch.setenv("TERM", "xterm")
    assert cli.main(run, Example, "x", ["--items", "slow"]) == 0
    assert ("[half] of it, 9.5 pairs/s" in capsys.readouterr().err) == terminal


def test_a_terminal_shows_how_far_the_step_is(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")  # only the part of the bar that is done is drawn then
    assert cli.main(run, Example, "x", ["--items", "far"]) == 0
    drawn = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "step 1/4, 9 s left" in line]
    assert drawn[-1].count("━") == 20 / 4


def test_recipe_gives_defaults_and_flags_win(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("x: {epochs: 4, system: t, model: from_recipe}\ny: {unknown: 1}\n")
    assert cli.main(run, Example, "x", ["--items", "i", "--recipe", str(recipe), "--epochs", "2"]) == 0
    assert "config: 2 t ['a'] from_recipe\n" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "y: {unknown: 1}", "x:"])
def test_a_recipe_without_the_section_leaves_the_defaults(tmp_path, capsys, content):
    (tmp_path / "r.yaml").write_text(content)
    assert cli.main(run, Example, "x", ["--items", "i", "--recipe", str(tmp_path / "r.yaml")]) == 0
    assert "config: 1 s ['a'] \n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--items", "bad"], 2, "error: items 'bad' is bad; give a good one\n"),
        (["--items", "away"], 75, "temporary trouble: storage is away; try again\n"),
        (["--items", "i", "--epochs", "0"], 2, "key 'epochs' = 0"),
        (["--items", "i", "--epochs", "many"], 2, "key 'epochs' = 'many'"),
        (["--items", "i", "--names", "[b"], 2, "--names '[b' is not a YAML value"),
        (["--items", "i", "--recipe", "no.yaml"], 2, "recipe 'no.yaml' does not exist"),
        (["--items", "i", "--recipe", "{folder}/cut.yaml"], 2, "cut.yaml' is not valid YAML"),
        (["--items", "i", "--recipe", "{folder}/list.yaml"], 2, "section 'x' must hold keys and values"),
        (["--items", "i", "--recipe", "{folder}/extends.yaml"], 2, "extends another; give one written out by: python -m pipelines show"),
        (["--items", "i", "--recipe", "{folder}/other.yaml"], 2, "other.yaml' is not valid YAML"),
        (["--items", "i", "--recipe", "{folder}/typo.yaml"], 2, "unknown key 'epoch'; known keys: epochs, model, names, system"),
    ],
)
def test_exit_codes_and_messages(tmp_path, capsys, flags, code, message):
    (tmp_path / "cut.yaml").write_text("x: {epochs: [1\ny: }")
    (tmp_path / "list.yaml").write_text("x: [1, 2]")
    (tmp_path / "extends.yaml").write_text("extends: tiny\nx: {epochs: 1}")
    (tmp_path / "other.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "typo.yaml").write_text("x: {epoch: 1}")
    assert cli.main(run, Example, "x", [flag.replace("{folder}", str(tmp_path)) for flag in flags]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_missing_argument_is_argparse_error(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(run, Example, "x", [])
    assert caught.value.code == 2
    assert "--items" in capsys.readouterr().err


def test_help_holds_every_settings_sentence(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(run, Example, "x", ["--help"])
    assert caught.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for sentence in ("Passes; 100% of them. (default: 1)", "Names. (default: ['a'])", "--recipe FILE"):
        assert sentence in printed
    assert printed.count("--model") >= 1
