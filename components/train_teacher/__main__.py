"""python -m components.train_teacher --card C --encoder E --items I --queries Q --judgments J --neighbors N --model FOLDER"""

import sys

from components.shared.cli import main
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.step import run

sys.exit(main(run, TrainTeacherConfig, "teacher"))
