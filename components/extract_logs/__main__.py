r"""Read a search log.

python -m components.extract_logs --card CARD --judged-queries URI --events OUT --interactions OUT --queries OUT --lineage OUT [--date DAY]
"""

import sys

from components.extract_logs.config import ExtractLogsConfig
from components.extract_logs.step import run
from components.shared.cli import main

sys.exit(main(run, ExtractLogsConfig, "logs"))
