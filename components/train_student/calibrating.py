"""From a trained student's scores to gains: fitted to what people judged of queries that the student did not learn from."""

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import expit

from components.shared import storage
from components.shared.calibration import Bins, Calibration, controlled_bound
from components.shared.cross_fitting import cross_fitted
from components.shared.errors import InputError
from components.shared.figures import calibration_plot
from components.shared.models import folder
from components.shared.models.inputs import model_texts
from components.shared.models.scoring import Scorer
from components.shared.tables import rows_of
from components.shared.tracking import Tracker
from components.train_student.config import TrainStudentConfig
from components.train_student.targets import Lessons

logger = logging.getLogger(__name__)

MIN_QUERIES, MIN_PAIRS = 5, 50
PLOT = "calibration.svg"


def unlearnt(judgments: pa.Table, lessons: Lessons) -> pa.Table:
    """Judgments of train queries none of whose pairs the student learns from, by query and item.

    Raises:
        InputError: when they are too few to fit anything to.
    """
    learnt = lessons.pairs["query_id"].filter(pa.array(~lessons.held_out))
    train = pc.and_(pc.equal(judgments["split"], "train"), pc.invert(pc.is_in(judgments["query_id"], value_set=learnt.combine_chunks())))
    found = judgments.filter(train).sort_by([("query_id", "ascending"), ("item_id", "ascending")])
    num_queries = pc.count_distinct(found["query_id"]).as_py()
    if num_queries < MIN_QUERIES or len(found) < MIN_PAIRS:
        raise InputError(
            f"calibration needs judged pairs of train queries that the student does not learn from: {len(found)} pairs of {num_queries} "
            f"queries are too few ({MIN_PAIRS} of {MIN_QUERIES}); raise validation_share, or set calibration to none"
        )
    return found


def calibrate(
    config: TrainStudentConfig,
    model: str,
    judged: pa.Table,
    queries: pa.Table,
    items: pa.Table,
    neighbors: pa.Table | None,
    tracker: Tracker,
) -> dict[str, float]:
    """Fit, write the map into the model folder and a plot beside it; metrics under `calibration.`.

    Errors after the fit are cross-fitted: each query is answered by a map that was fitted to others. So are the gains that the two bounds
    are found on, as in cross-conformal prediction (Vovk 2015), while the map that is written is fitted to all.

    Args:
        judged: from `unlearnt`.
    """
    scorer = Scorer(model)
    scores = scorer.scores(*model_texts(scorer.spec, judged, queries, items, neighbors))
    gains, query = judged["gain"].to_numpy(), np.unique(judged["query_id"].to_numpy(), return_inverse=True)[1]
    segments = rows_of(queries, "query_id", judged["query_id"], where="judgments")["segment"].to_numpy()

    def answers(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
        fitted = Calibration.fit(scores[known], gains[known], segments[known], config.calibration)
        return fitted.gains(scores[asked], segments[asked])[:, None]

    honest = cross_fitted(query, answers)[:, 0]
    bins = {"before": Bins.of(as_they_stand(scorer.spec, scores), gains), "after": Bins.of(honest, gains)}
    error, middle = config.calibration_error, config.relevant_gain
    is_good = gains >= middle
    found = replace(
        Calibration.fit(scores, gains, segments, config.calibration),
        hide_below=controlled_bound(honest[is_good], query[is_good], error),
        sure_above=_negative(controlled_bound(-honest[~is_good], query[~is_good], error)),
        error=error,
    )
    folder.write_spec(model, replace(scorer.spec, calibration=found.to_json()))
    place = f"{storage.normalise(model)}-{PLOT}"
    storage.write_bytes(place, calibration_plot(bins))
    tracker.artifact(place)
    metrics = {"pairs": float(len(judged)), "queries": float(query.max() + 1)}
    metrics |= {f"error_{name}": one.error() for name, one in bins.items()}
    metrics |= {f"{name}_share": float(mask.mean()) for name, mask in found.verdicts(honest).items()}
    logger.info("calibrated on %d pairs: %s", len(judged), metrics)
    return {f"calibration.{name}": value for name, value in metrics.items()}


def as_they_stand(spec: folder.ModelSpec, scores: np.ndarray) -> np.ndarray:
    """What scores say of the gain before any fit [rows]: sigmoid of what imitates a logit; a cosine or gain itself, in 0 to 1."""
    whole = spec.temperature * scores
    return expit(whole) if spec.kind in folder.LOGIT_KINDS and spec.target == "logit" else np.clip(whole, 0.0, 1.0)


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
