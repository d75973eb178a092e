"""python -m components.annotate_pairs --pairs P --queries Q --items I --sub-judgments OUT [--judgments J] [--neighbors N]"""

import sys

from components.annotate_pairs.config import AnnotatePairsConfig
from components.annotate_pairs.step import run
from components.shared.cli import main

sys.exit(main(run, AnnotatePairsConfig, "annotation"))
