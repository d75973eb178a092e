"""`python -m components.train_student --encoder ... --pairs ... --soft-targets ... --model OUT`."""

import sys

from components.shared.cli import main
from components.train_student.config import TrainStudentConfig
from components.train_student.step import run

if __name__ == "__main__":
    sys.exit(main(run, TrainStudentConfig, "cross_encoder"))
