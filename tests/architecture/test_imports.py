"""Compiling a pipeline loads no machine-learning package, and tools are imported only where the house rules allow them."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_STEPS = {"serving"}  # beside the rooms, but nothing that a pipeline runs: no step, no kfp door
FOLDERS = sorted(path.name for path in (ROOT / "components").iterdir() if path.is_dir() and path.name not in ("shared", "__pycache__"))
ROOMS = [name for name in FOLDERS if name not in NO_STEPS]
SOURCES = sorted([*(ROOT / "components").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])
HEAVY = {"torch", "transformers", "mlflow", "pandas", "sklearn", "scipy", "deepspeed"}
ALLOWED = {
    "kfp": ("pipelines/", "component.py"),
    "mlflow": ("components/shared/tracking_mlflow.py", "components/shared/registry.py", "components/serving/mlflow_"),
    "deepspeed": ("components/shared/launch", "components/train_teacher/trainer.py"),
}


def modules_loaded_by(*names: str) -> set[str]:
    code = f"import sys; [__import__(name) for name in {list(names)!r}]; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def imported(path: Path) -> set[str]:
    """Top-level packages that a file names in any import, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_compiling_and_checking_recipes_loads_nothing_heavy():
    doors = [f"components.{room}.{door}" for room in ROOMS for door in ("config", "component")]
    pipelines = [f"pipelines.{path.stem}" for path in (ROOT / "pipelines").glob("*.py") if path.stem not in ("__main__", "__init__")]
    loaded = modules_loaded_by(*doors, *pipelines, "pipelines.__main__")
    assert "kfp" in loaded
    assert loaded & HEAVY == set()


def test_the_light_shared_modules_load_neither_kfp_nor_anything_heavy():
    light = ["config", "errors", "report", "storage", "tables", "schema", "card", "text", "tracking", "handover", "cli", "spools"]
    loaded = modules_loaded_by(*(f"components.shared.{name}" for name in [*light, "tracking_mlflow", "registry"]))
    assert loaded & (HEAVY | {"kfp"}) == set()


@pytest.mark.parametrize("tool", ALLOWED)
def test_a_tool_is_imported_only_where_it_belongs(tool):
    places = [path.relative_to(ROOT).as_posix() for path in SOURCES if tool in imported(path)]
    strays = [place for place in places if not any(place.startswith(ok) or place.endswith(f"/{ok}") for ok in ALLOWED[tool])]
    assert places, f"nothing imports {tool}"
    assert strays == []


def test_every_folder_of_components_is_declared_with_all_its_doors():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    declared = {name.strip().removeprefix("components.") for name in layers[1].split("|")}
    assert set(FOLDERS) == declared
    doors, of_steps = ("__init__.py", "__main__.py", "config.py", "README.md"), ("step.py", "component.py")
    wanted = [f"{name}/{door}" for name in FOLDERS for door in (doors if name in NO_STEPS else (*doors, *of_steps))]
    assert [door for door in wanted if not (ROOT / "components" / door).is_file()] == []
    assert [f"{name}/{door}" for name in NO_STEPS for door in of_steps if (ROOT / "components" / name / door).is_file()] == []


def test_the_server_loads_neither_torch_nor_what_trains():
    loaded = modules_loaded_by(*(f"components.serving.{name}" for name in ("server", "runtime", "service", "config")))
    assert loaded & {"torch", "transformers", "mlflow", "sklearn", "kfp", "pandas"} == set()


def test_there_are_no_import_cycles():
    import grimp

    graph = grimp.build_graph("components", "pipelines")
    left = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while leaves := {module for module, uses in left.items() if not uses & left.keys()}:
        left = {module: uses for module, uses in left.items() if module not in leaves}
    users = {module for uses in left.values() for module in uses}
    assert sorted(left.keys() & users) == []
