"""Numbers on our pages are those of the committed result files."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def renderer():
    folder = str(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location("render", f"{folder}/render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md"])
def test_a_page_shows_what_the_result_files_hold(renderer, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert renderer.render(text) == text, f"{page} is stale; run: python benchmarks/render.py"


def test_a_changed_number_is_noticed(renderer) -> None:
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    events = f"{json.loads((ROOT / 'benchmarks/results/extract_logs.json').read_text())['result'][0]['events']:,}"
    assert events in text
    assert renderer.render(text.replace(events, "7")) == text


def test_every_result_file_says_machine_versions_and_settings() -> None:
    files = sorted((ROOT / "benchmarks/results").glob("*.json"))
    assert files
    for file in files:
        assert {"machine", "versions", "settings", "result"} <= json.loads(file.read_text()).keys(), file.name


def test_every_command_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", text)) <= targets
    for module in re.findall(r"python -m (components\.[a-z_]+)", text):
        assert (ROOT / module.replace(".", "/") / "__main__.py").is_file()
