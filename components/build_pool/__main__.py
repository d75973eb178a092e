"""python -m components.build_pool --items ... --queries ... --judgments ... --interactions ... --pairs OUT"""

import sys

from components.build_pool.config import BuildPoolConfig
from components.build_pool.step import run
from components.shared.cli import main

sys.exit(main(run, BuildPoolConfig, "pool"))
