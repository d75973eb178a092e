"""Which method reads a decoder's pairs fastest here: found by measuring some of them, among the methods that agree."""

import logging
import time

import numpy as np

from components.shared.errors import InputError
from components.shared.models.decoders import METHODS, DecoderClassifier
from components.shared.models.tokens import JoinedPairs

logger = logging.getLogger(__name__)

PROBE_PAIRS, MAX_PAIRS = 16, 240
SECONDS = 10.0  # that the plain method may take
TOLERANCE = {"fp32": 1e-4, "bf16": 0.5}  # of a logit; bf16 rounds by some hundredths, a wrong method errs by units


def choose_method(decoder: DecoderClassifier, pairs: JoinedPairs) -> tuple[str, dict[str, float]]:
    """The fastest method on (some of) `pairs` and the pairs/s of each that the model can run and that agrees with `plain`.

    Pairs of one prefix should be adjacent; what is measured are the first of them, as many as `plain` reads in some seconds.
    """
    probe = pairs.first(PROBE_PAIRS)
    decoder.logits(probe)  # pays for memory and kernels
    seconds, _ = _timed(decoder, probe, "plain")
    sample = pairs.first(int(np.clip(SECONDS / seconds * len(probe.items), PROBE_PAIRS, MAX_PAIRS)))
    rates: dict[str, float] = {}
    reference: np.ndarray | None = None
    for method in METHODS:
        try:
            decoder.logits(probe, method)
            seconds, logits = _timed(decoder, sample, method)
        except (InputError, RuntimeError) as error:
            logger.warning("method %s is left out: %s", method, str(error).splitlines()[0])
            continue
        reference = logits if reference is None else reference
        difference = float(np.abs(logits - reference).max())
        if difference > TOLERANCE[decoder.precision]:
            logger.warning("method %s is left out: it changes a logit by %.2g", method, difference)
            continue
        rates[method] = len(sample.items) / seconds
    best = max(rates, key=lambda name: rates[name])
    told = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
    logger.info("method %s: of %d pairs measured, pairs/s: %s", best, len(sample.items), told)
    return best, rates


def _timed(decoder: DecoderClassifier, pairs: JoinedPairs, method: str) -> tuple[float, np.ndarray]:
    started = time.perf_counter()
    logits = decoder.logits(pairs, method)
    return max(time.perf_counter() - started, 1e-9), logits
