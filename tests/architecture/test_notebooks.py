"""Notebooks are committed without outputs and begin with the cell that a user edits. That they run is tested on a whole run."""

import ast
import json
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def fault_of(notebook: dict) -> str:
    """What is wrong with a notebook as it is committed; empty where nothing is."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if any(cell["outputs"] or cell["execution_count"] for cell in code):
        return "outputs"
    if not all(isinstance(node, ast.Assign) for node in ast.parse("".join(code[0]["source"])).body):
        return "the first code cell does more than to name what it reads"
    if any(len(cell["source"]) > 15 for cell in code):
        return "a long cell"
    return ""


def test_all_four_are_there():
    assert [file.name[:2] for file in FILES] == ["01", "02", "03", "04"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_is_committed_clean(file):
    assert fault_of(json.loads(file.read_text(encoding="utf-8"))) == ""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"outputs": [{"output_type": "stream"}]}, "outputs"),
        ({"execution_count": 3}, "outputs"),
        ({"source": ["import pandas"]}, "the first code cell does more than to name what it reads"),
        ({"source": ["a = 1\n"] * 16}, "a long cell"),
        ({}, ""),
    ],
)
def test_what_must_not_be_committed_is_seen(change, fault):
    cell = {"cell_type": "code", "outputs": [], "execution_count": None, "source": ['workspace = "runs"']}
    assert fault_of({"cells": [{"cell_type": "markdown", "source": ["text"]}, cell | change]}) == fault
