"""Conditions that several relations share."""

from typing import Any

from components.extract_logs.window import Window
from components.shared.columns import _


def inside(window: Window) -> Any:
    """Whether `us` lies in the window."""
    return (_.us >= window.start_us) & (_.us < window.end_us)
