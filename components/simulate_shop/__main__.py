"""Make a shop, or point at a given data folder: `python -m components.simulate_shop --dataset OUT [--given FOLDER] [--num-items 1500]`."""

import sys

from components.shared.cli import main
from components.simulate_shop.config import SimulateShopConfig
from components.simulate_shop.step import run

sys.exit(main(run, SimulateShopConfig, "shop"))
