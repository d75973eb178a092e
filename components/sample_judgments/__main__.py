"""python -m components.sample_judgments --soft-targets ... --queries ... --items ... --sheet OUT.csv"""

import sys

from components.sample_judgments.config import SampleJudgmentsConfig
from components.sample_judgments.step import run
from components.shared.cli import main

sys.exit(main(run, SampleJudgmentsConfig, "sheet"))
