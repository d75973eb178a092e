"""Rankings as a TREC run file: `qid Q0 docid rank score system`, one line per item."""

import pyarrow as pa
import pyarrow.compute as pc

from components.shared import storage
from components.shared.errors import InputError


def refuse_white_space(ids: pa.ChunkedArray, name: str) -> None:
    """Raises InputError: a TREC run is split at white space, so an id that has some would shift the columns."""
    wrong = ids.filter(pc.match_substring_regex(ids, r"\s"))
    if len(wrong):
        raise InputError(f"pairs: {name} '{wrong[0]}' has white space, which a TREC run cannot hold; rename it or use output=rankings")


def write_trec_run(uri: str, rankings: pa.Table) -> None:
    """Write (replace) the run file; by query, best first."""
    table = rankings.sort_by([("query_id", "ascending"), ("rank", "ascending")])
    rank, score = (pc.cast(table[name], pa.string()) for name in ("rank", "score"))
    lines = pc.binary_join_element_wise(table["query_id"], "Q0", table["item_id"], rank, score, table["system"], " ")
    storage.write_bytes(uri, "".join(f"{line}\n" for line in lines.to_pylist()).encode())
