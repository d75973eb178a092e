"""A user's own data folder: only pointed at, never copied."""

import os

from components.shared import storage
from components.shared.errors import InputError

GIVEN = "given.json"


def point_at(given: str, uri: str) -> int:
    """Write `given.json` with the folder's address and the digest of its listing; returns the number of files.

    Raises:
        InputError: when the folder is absent, unreadable, empty or a file.
    """
    address = storage.normalise(given)
    remedy = "give a folder with dataset.yaml or of a known shape (see components/import_dataset/README.md)"
    if not storage.exists(address):
        raise InputError(f"data folder '{given}' does not exist; {remedy}")
    if storage.is_local(address) and not storage.local_path(address).is_dir():
        raise InputError(f"data folder '{given}' is a file; {remedy}")
    if storage.is_local(address) and not os.access(storage.local_path(address), os.R_OK | os.X_OK):
        raise InputError(f"data folder '{given}' is not readable by this user; change its permissions or {remedy}")
    files = storage.list_files(address)
    if not files:
        raise InputError(f"data folder '{given}' is empty; {remedy}")
    storage.write_json(storage.join(uri, GIVEN), {"uri": address, "snapshot": storage.listing_digest(address)})
    return len(files)
