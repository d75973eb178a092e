"""python -m components.score_pairs --pairs my.csv --model FOLDER --output trec --scores out.run"""

import sys

from components.score_pairs.config import ScorePairsConfig
from components.score_pairs.step import run
from components.shared.cli import main

sys.exit(main(run, ScorePairsConfig, "scoring"))
