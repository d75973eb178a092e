r"""Import a data folder.

python -m components.import_dataset --dataset FOLDER \
    --card OUT/card.json --items OUT/items --judged-queries OUT/queries --judgments OUT/judgments
"""

import sys

from components.import_dataset.config import ImportDatasetConfig
from components.import_dataset.step import run
from components.shared.cli import main

sys.exit(main(run, ImportDatasetConfig, "dataset"))
