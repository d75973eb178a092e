"""Which queries of a log are rewordings of a dev or test query: their clicks and soft targets would tell what is evaluated."""

import duckdb

MIN_JACCARD = 0.5  # of the two sets of words
MIN_JARO_WINKLER = 0.9  # of the two texts: typing mistakes
MIN_PREFIX_CHARS = 3  # half-typed queries


def find_rewordings(connection: duckdb.DuckDBPyConnection, queries: str, evaluated: str) -> None:
    """Make table `rewordings` (query): those of `queries` that equal a query of `evaluated`, share half of its words, are a
    misspelling of it or its beginning. Candidates for a misspelling start with the same letter and are at most twice as long.

    Args:
        queries, evaluated: names of tables with a column `query`, normalised texts.
    """
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE words AS SELECT query, word, count(*) OVER (PARTITION BY query) AS num_words FROM (
              SELECT query, unnest(list_distinct(string_split(query, ' '))) AS word FROM (
                SELECT query FROM {queries} UNION SELECT query FROM {evaluated}));
            CREATE OR REPLACE TEMP TABLE rewordings AS
              SELECT query FROM {evaluated}
              UNION SELECT ours.query FROM words AS ours
                JOIN (SELECT words.* FROM words SEMI JOIN {evaluated} AS evaluated USING (query)) AS theirs USING (word)
                GROUP BY ours.query, theirs.query, ours.num_words, theirs.num_words
                HAVING count(*) >= {MIN_JACCARD} * (ours.num_words + theirs.num_words - count(*))
              UNION SELECT ours.query FROM {queries} AS ours JOIN {evaluated} AS theirs ON left(ours.query, 1) = left(theirs.query, 1)
                AND 2 * least(length(ours.query), length(theirs.query)) >= greatest(length(ours.query), length(theirs.query))
                WHERE jaro_winkler_similarity(ours.query, theirs.query) >= {MIN_JARO_WINKLER}
              UNION SELECT ours.query FROM {queries} AS ours JOIN {evaluated} AS theirs ON left(ours.query, 1) = left(theirs.query, 1)
                WHERE length(ours.query) >= {MIN_PREFIX_CHARS} AND starts_with(theirs.query, ours.query);
            DROP TABLE words"""
    )
