"""python -m components.extract_logs --card CARD --judged-queries URI --date DAY, and an URI for each table: --help lists them."""

import sys

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.step import run
from components.shared.cli import main

sys.exit(main(run, ExtractLogsConfig, "logs"))
