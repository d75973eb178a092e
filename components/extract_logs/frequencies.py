"""How often a query was typed, and whether it is head, torso or tail."""

import duckdb
import pyarrow as pa

from components.extract_logs.config import ExtractLogsConfig


def rank_queries(connection: duckdb.DuckDBPyConnection, config: ExtractLogsConfig, judged: pa.Table) -> pa.Table:
    """Table `queries`: all judged queries under their own ids, and the kept queries of the log.

    A query is head while the queries typed more often carry less than `head_share` of all kept searches, torso up to `torso_share`,
    tail below, unseen when nobody typed it. Queries that are typed equally often get the same segment.
    """
    connection.register("judged_input", judged)
    connection.execute(
        f"""CREATE TABLE ranked AS
            SELECT query, query_id, judged, frequency,
                   CASE WHEN frequency = 0 THEN 'unseen' WHEN before < {config.head_share} * total THEN 'head'
                        WHEN before < {config.torso_share} * total THEN 'torso' ELSE 'tail' END AS segment
            FROM (SELECT query, query_id, judged, frequency, sum(frequency) OVER () AS total,
                         sum(frequency) OVER (ORDER BY frequency DESC) - sum(frequency) OVER (PARTITION BY frequency) AS before
                  FROM counted WHERE reason IS NULL)"""
    )
    table = connection.sql(
        """SELECT judged_input.query_id AS query_id, query_text, query, coalesce(ranked.frequency, 0) AS frequency,
                  coalesce(ranked.segment, 'unseen') AS segment, kind, split FROM judged_input LEFT JOIN ranked USING (query)
           UNION ALL SELECT query_id, query, query, frequency, segment, NULL, NULL FROM ranked WHERE NOT judged AND frequency > 0
           ORDER BY query_id"""
    ).to_arrow_table()
    connection.unregister("judged_input")
    return table
