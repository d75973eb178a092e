"""Prints what the project and some of its extras ask for, one requirement a line: `python print_extras.py pipeline,tracking`."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = [one for extra in sys.argv[1].split(",") for one in project["optional-dependencies"][extra]]
sys.stdout.write("\n".join([*project["dependencies"], *extras]) + "\n")
