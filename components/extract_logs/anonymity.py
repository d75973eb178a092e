"""What k-anonymity costs: how much of a log would be lost if more clients had to have typed a query before it may leave the warehouse."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc


def loss_by_k(events: pa.Table, judged: Iterable[str], ks: Sequence[int]) -> pa.Table:
    """Shares of a published log that a k would drop; what the log's own k dropped is gone and not in it.

    Clients are those with an event, which are at most those who typed the query, so a loss is never shown too small.

    Args:
        events: columns `query` and `client` of table `events`.
        judged: queries that are kept whatever their k, because their texts are public.
        ks: least numbers of clients to try.

    Returns:
        k, queries, events: the shares lost, 0 to 1, of all queries and of all events.
    """
    each = events.group_by("query").aggregate([("client", "count_distinct"), ([], "count_all")])
    clients, counts = each["client_count_distinct"].to_numpy(), each["count_all"].to_numpy()
    exempt = pc.is_in(each["query"], value_set=pa.array(list(judged), pa.string())).to_numpy()
    lost = [(clients < k) & ~exempt for k in ks]
    queries = [float(one.sum()) / max(len(one), 1) for one in lost]
    return pa.table({"k": list(ks), "queries": queries, "events": [float(counts[one].sum()) / max(counts.sum(), 1) for one in lost]})
