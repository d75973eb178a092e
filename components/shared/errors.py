"""The two kinds of failure that a step may end with, and their exit codes."""

EXIT_INPUT = 2
EXIT_TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h: an orchestrator may try again


class InputError(ValueError):
    """A user's mistake: the message names file, column or key, the value, and the remedy. Never retried."""


class TemporaryError(RuntimeError):
    """Trouble outside our control (network, preemption, 429/5xx). May be retried."""
