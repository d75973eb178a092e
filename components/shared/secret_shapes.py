"""What keys and tokens look like: found in compiled pipelines by the lint, and hidden in what a failed task tells."""

import re

SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bhf_[A-Za-z]{20,}|\bsk-[\w-]{20,}|\bglpat-[\w-]{16,}"
    r"|\bya29\.[\w-]+|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.|\bxox[abp]-[\w-]{10,}|://[^/\s:@]+:[^/\s:@]+@"
)


def hidden(text: str) -> str:
    """The text with everything that looks like a secret struck out."""
    return SECRET_VALUE.sub("[hidden]", text)
