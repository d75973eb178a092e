"""One answer from a teacher that was asked in several stages (ProRBP, arXiv 2408.09439, which leaves its aggregation open)."""

import numpy as np
from scipy.special import log_softmax


def combined_logits(stage_logits: np.ndarray, weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum over the stages of weight x log-probabilities, plus an offset per grade: a log-linear pool (Genest and Zidek 1986, section 3).

    A weight is also its stage's inverse temperature, and equal weights that add up to 1 are the plain average.

    Args:
        stage_logits: [stages, rows, grades]; weights: [stages], none below 0; offsets: [grades].

    Returns:
        [rows, grades], float32.
    """
    return (np.tensordot(weights, log_softmax(stage_logits.astype(np.float64), axis=-1), axes=1) + offsets).astype(np.float32)
