"""The compiled pipeline, once for all tests here."""

from pathlib import Path

import pytest

from pipelines import ir, recipe


@pytest.fixture(scope="session")
def laptop_file(tmp_path_factory) -> Path:
    return ir.compile_pipeline(tmp_path_factory.mktemp("ir") / "laptop.yaml", {**recipe.load("tiny"), "workspace": "file:///w"})


@pytest.fixture(scope="session")
def laptop(laptop_file):
    return ir.read_ir(laptop_file)
