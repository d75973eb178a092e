"""The teacher's step in a process of its own that a test can kill: `python teacher_process.py CALL.json`, the arguments of `run`."""

import json
import sys
from pathlib import Path

from components.shared.errors import InputError, TemporaryError
from components.shared.tracking import SpoolTracker
from components.train_teacher.config import TrainTeacherConfig
from components.train_teacher.step import run

if __name__ == "__main__":
    call = json.loads(Path(sys.argv[1]).read_text())
    try:
        run(TrainTeacherConfig(**call["config"]), **call["places"], tracker=SpoolTracker(Path(call["spool"]), "teacher"))
    except (InputError, TemporaryError) as error:
        Path(call["spool"] + ".error").write_text(f"{type(error).__name__}: {error}")
        sys.exit(1)
