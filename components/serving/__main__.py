"""python -m components.serving --model FOLDER --port 8080"""

import sys

from components.serving.config import ServingConfig
from components.serving.server import run
from components.shared.cli import main

sys.exit(main(run, ServingConfig, "serving"))
