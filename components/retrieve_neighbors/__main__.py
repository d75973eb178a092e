"""python -m components.retrieve_neighbors --interactions ... --items ... --queries ... --judgments ... --neighbors OUT/neighbors"""

import sys

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.step import run
from components.shared.cli import main

sys.exit(main(run, RetrieveNeighborsConfig, "neighbors"))
