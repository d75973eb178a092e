"""python -m components.evaluate_rankings --judgments q.qrels --rankings a.run,b.parquet --evaluation out"""

import sys

from components.evaluate_rankings.config import EvaluateRankingsConfig
from components.evaluate_rankings.step import run
from components.shared.cli import main

sys.exit(main(run, EvaluateRankingsConfig, "evaluation"))
