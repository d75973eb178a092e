"""python -m components.preflight --workspace URI --page FILE, with --needs and --rights as YAML: looks from here, as this account."""

import sys

from components.preflight.config import PreflightConfig
from components.preflight.step import run
from components.shared.cli import main

sys.exit(main(run, PreflightConfig, "preflight"))
