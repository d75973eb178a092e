"""When shoppers look, click, put into the cart and buy.

Position-based model (Craswell et al. 2008, "An experimental comparison of click position-bias models"): a click needs that the
position is examined and that the item attracts. Examination falls as position**-eta (Joachims, Swaminathan and Schnabel 2017, section 6.1).
With trust bias, an examined result at the top is clicked more often than it deserves (Agarwal et al. 2019, "Addressing trust bias").
"""

import numpy as np

from components.simulate_shop.relevance import GAINS

BASE_ATTRACTION, GAIN_ATTRACTION = 0.02, 0.6
CART_BASE, CART_GAIN, BUY = 0.03, 0.15, 0.35


def examination(page_size: int, eta: float) -> np.ndarray:
    """Probability that position 1, 2, ... is examined, given that it was scrolled into view."""
    return np.arange(1, page_size + 1, dtype=float) ** -eta


def attraction(grades: np.ndarray) -> np.ndarray:
    """Probability that an examined item of a grade is clicked."""
    return BASE_ATTRACTION + GAIN_ATTRACTION * np.array(GAINS)[grades]


def click_probability(grades: np.ndarray, eta: float, trust_bias: bool) -> np.ndarray:
    """Probability of a click [searches, positions] by a shopper who takes the search seriously."""
    num_positions = grades.shape[1]
    attracts = attraction(grades)
    if trust_bias:
        position = np.arange(1, num_positions + 1)
        attracts = (0.98 - position / 200) * attracts + 0.08 / position * (1 - attracts)
    return examination(num_positions, eta) * attracts


def cart_probability(grades: np.ndarray) -> np.ndarray:
    """Probability that a clicked item of a grade goes into the cart."""
    return CART_BASE + CART_GAIN * np.array(GAINS)[grades]
