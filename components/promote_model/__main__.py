"""python -m components.promote_model --evaluation out --model folder --promotion promotion.json"""

import sys

from components.promote_model.config import PromoteModelConfig
from components.promote_model.step import run
from components.shared.cli import main

sys.exit(main(run, PromoteModelConfig, "promotion"))
