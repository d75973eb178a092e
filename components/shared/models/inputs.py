"""From tables to the two texts that a model reads, the same way for training and scoring."""

import pyarrow as pa
import pyarrow.compute as pc

from components.shared import text
from components.shared.errors import InputError
from components.shared.models.folder import ModelSpec
from components.shared.neighbors import attach_neighbors, attach_second_order
from components.shared.tables import rows_of


def model_texts(
    spec: ModelSpec, pairs: pa.Table, queries: pa.Table, items: pa.Table, neighbors: pa.Table | None
) -> tuple[list[str], list[str]]:
    """Left and right text of each pair [rows of `pairs`].

    Those of a teacher with stages hold a text for each (`text.split_stages`), those of a graph student a list of neighbors for each order.

    Args:
        pairs: columns query_id, item_id and, for judgments, judged_at: only behavior from before that day is shown.
        neighbors: needed by a model that was trained with them.

    Raises:
        InputError: for unknown ids, or a model without its neighbors.
    """
    query_rows = rows_of(queries, "query_id", pairs["query_id"], where="pairs")
    item_rows = rows_of(items, "item_id", pairs["item_id"], where="pairs")
    return texts_of_rows(spec, pairs, query_rows, item_rows, neighbors)


def texts_of_rows(
    spec: ModelSpec, pairs: pa.Table, query_rows: pa.Table, item_rows: pa.Table, neighbors: pa.Table | None
) -> tuple[list[str], list[str]]:
    """`model_texts` of pairs whose query and item are given row by row, as they are or edited."""
    if spec.num_neighbors and neighbors is None:
        raise InputError(f"this {spec.kind} was trained with behavior neighbors; give the neighbors table (--neighbors)")
    if spec.kind != "teacher":
        sides = [text.query_text(query_rows["query"])], [text.item_text(item_rows)]
        for step in range(spec.graph_order):
            for side, found in zip(sides, _around(spec, pairs, query_rows, neighbors, step), strict=True):
                side.append(text.clean(pc.fill_null(found, "")))
        return text.join_stages(sides[0]).to_pylist(), text.join_stages(sides[1]).to_pylist()
    evidence = {
        strength: _neighbor_texts(spec, pairs, query_rows, neighbors, strength=strength)
        for strength in {one.strength for one in spec.prompts()}
    }
    left = [text.teacher_query(query_rows["query"], evidence[one.strength][0] if one.accepted else None) for one in spec.prompts()]
    right = [text.teacher_item(item_rows, evidence[one.strength][1] if one.satisfied else None) for one in spec.prompts()]
    return text.join_stages(left).to_pylist(), text.join_stages(right).to_pylist()


def _neighbor_texts(
    spec: ModelSpec, pairs: pa.Table, query_rows: pa.Table, neighbors: pa.Table | None, *, strength: bool
) -> tuple[pa.Array | None, pa.Array | None]:
    if not spec.num_neighbors or neighbors is None:
        return None, None
    if strength:
        shown = text.with_strength(neighbors["text"], neighbors["lower_bound"])
        neighbors = neighbors.set_column(neighbors.column_names.index("text"), "text", shown)
    return attach_neighbors(_keys(pairs, query_rows), neighbors, spec.num_neighbors)


def _around(spec: ModelSpec, pairs: pa.Table, query_rows: pa.Table, neighbors: pa.Table | None, step: int) -> tuple[pa.Array, pa.Array]:
    """What lies `step` + 1 steps away from query and item."""
    if neighbors is None:
        return pa.nulls(len(pairs), pa.string()), pa.nulls(len(pairs), pa.string())
    attach = (attach_neighbors, attach_second_order)[step]
    return attach(_keys(pairs, query_rows), neighbors, spec.num_neighbors)


def _keys(pairs: pa.Table, query_rows: pa.Table) -> pa.Table:
    no_date = pa.nulls(len(pairs), pa.date32())
    judged_at = pairs["judged_at"] if "judged_at" in pairs.column_names else no_date
    return pa.table({"query": query_rows["query"], "item_id": pairs["item_id"], "judged_at": judged_at})
