"""Columns of the relation at hand, in Ibis expressions."""

from typing import Any

import ibis

_: Any = ibis._  # `_.clicks` is column `clicks`; ibis does not say its type
