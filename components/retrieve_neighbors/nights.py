"""The chain of nights: where each night's tables lie, and which night tonight's log can be added to.

`<workspace>/<section>/nights/<chain>/<last day>.json` names the folder of that night's tables. A chain is of one shop's log, one set of
settings of this room and of `extract_logs`, and one version of the tables; of several runs of one night the last one counts.
"""

import hashlib
import json
import logging
from datetime import date

from components.retrieve_neighbors.config import RetrieveNeighborsConfig
from components.retrieve_neighbors.counts import ONE_DAY
from components.shared import storage
from components.shared.errors import InputError
from components.shared.schema import EVIDENCE, NEIGHBORS
from components.shared.tables import is_committed

WHOLE = ("complete", "alone")  # statuses of a day whose rows are all there, as far as the log can tell
logger = logging.getLogger(__name__)


class Nights:
    """Tonight as a link of its chain; with `history: window` no night knows another."""

    def __init__(self, config: RetrieveNeighborsConfig, place: str, lineage: str) -> None:
        """
        Args:
            place: URI of the folder below which all runs of this recipe section lie.
            lineage: URI of the folder that extract_logs wrote tonight.

        Raises:
            InputError: for a lineage without the keys that are needed.
        """
        self._is_on = config.history == "nights"
        if not self._is_on:
            return
        address = storage.join(lineage, "lineage.json")
        notes = storage.read_json(address)
        try:
            self._first, self._last = (date.fromisoformat(notes["window"][end]) for end in ("first", "last"))
            self._status = notes["last_day"]["status"]
            same = [config.model_dump(mode="json"), notes["source"]["root"], notes["settings"], EVIDENCE.version, NEIGHBORS.version]
        except (KeyError, TypeError, ValueError):
            raise InputError(f"'{address}' lacks source, settings, window or last_day; run extract_logs again") from None
        chain = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]
        self._chain = storage.join(place, "nights", chain)

    def previous(self) -> str:
        """URI of the folder that tonight goes on from: the latest night before, unless days lie between it and tonight's window.

        Empty when there is none, or when the last day of tonight's log is empty or partial: nothing is promoted then anyway.
        """
        if not self._is_on:
            return ""
        if self._status not in WHOLE:
            logger.info("the log alone is counted: its last day %s is %s", self._last, self._status)
            return ""
        earliest, latest = self._first - ONE_DAY, self._last - ONE_DAY
        for file in reversed(storage.list_files(self._chain)):
            day = date.fromisoformat(file.rsplit("/", 1)[1].removesuffix(".json"))
            folder = storage.read_json(file)["folder"] if earliest <= day <= latest else ""
            if folder and all(is_committed(storage.join(folder, name)) for name in ("evidence", "neighbors")):
                logger.info("the night of %s is gone on from: '%s'", day, folder)
                return folder
        logger.warning("the log alone is counted: '%s' has no night from %s to %s", self._chain, earliest, latest)
        return ""

    def record(self, neighbors: str) -> None:
        """Let later nights find the folder of tonight's table `neighbors`; a night whose last day may still grow is no link."""
        if self._is_on and self._status in WHOLE:
            storage.write_json(storage.join(self._chain, f"{self._last}.json"), {"folder": neighbors.rpartition("/")[0]})
