"""Columns of the relation at hand, in Ibis expressions."""

from typing import Any

import ibis

from components.extract_logs.window import Window

_: Any = ibis._  # `_.clicks` is column `clicks`; ibis does not say its type


def inside(window: Window) -> Any:
    """Whether `us` lies in the window."""
    return (_.us >= window.start_us) & (_.us < window.end_us)
