"""Pairs that people could judge, and what makes one more valuable than another."""

import numpy as np
import pyarrow as pa

from components.shared import registry, storage
from components.shared.calibration import Calibration
from components.shared.errors import InputError
from components.shared.tables import rows_of

SPEC = "relevance.json"


def doubted_by_teacher(soft_targets: pa.Table) -> pa.Table:
    """Candidates in the order of how much shoppers disagree with the teacher, then of its own doubt.

    A pair without enough clicks stands behind all that shoppers disagree with.

    Returns:
        query_id, item_id, expected_gain, entropy, disagreement, and `first` and `second`, by which the most valuable come first.
    """
    columns = {name: soft_targets[name] for name in ("query_id", "item_id", "entropy", "disagreement")}
    first = soft_targets["disagreement"].fill_null(0.0)
    return pa.table({**columns, "expected_gain": soft_targets["score"], "first": first, "second": soft_targets["entropy"]})


def undecided_by_student(rankings: pa.Table, queries: pa.Table, calibration: Calibration) -> pa.Table:
    """Candidates that the student neither hides nor calls sure; those of the most frequent queries first, then the nearest to being hidden.

    Args:
        rankings: the student's scores; queries: with segment and frequency; calibration: of the student.

    Returns:
        As `doubted_by_teacher`; the two doubts of a teacher are null.
    """
    asked = rows_of(queries, "query_id", rankings["query_id"], where="rankings")
    gains = calibration.gains(rankings["score"].to_numpy(), asked["segment"].to_numpy(zero_copy_only=False))
    uncertain = calibration.verdicts(gains)["uncertain"]
    unknown = pa.nulls(len(rankings), pa.float32())
    distance = -np.abs(gains - (calibration.hide_below or 0.0))
    columns = {"query_id": rankings["query_id"], "item_id": rankings["item_id"], "entropy": unknown, "disagreement": unknown}
    columns |= {"expected_gain": pa.array(gains), "first": asked["frequency"], "second": pa.array(distance)}
    return pa.table(columns).filter(pa.array(uncertain))


def calibration_of(model: str) -> Calibration:
    """The map and bounds of a student's folder.

    Raises:
        InputError: when there is no such folder, or its scores were not calibrated.
    """
    address = registry.resolve(model)
    place = storage.join(address, SPEC) if address else ""
    if not place or not storage.exists(place):
        raise InputError(f"key 'model' = '{model}': there is no {SPEC}; give a student's folder, or models:/<name>@champion")
    given = storage.read_json(place).get("calibration")
    if not given:
        raise InputError(f"'{place}' has no calibration, which says what is uncertain; train with calibration: isotonic")
    return Calibration.from_json(given)
