"""Which queries of the log are rewordings of a dev or test query, so that a report can do without their behavior evidence."""

import duckdb

from components.extract_logs.warehouse import number

MIN_JACCARD = 0.5  # of the two sets of words
MIN_JARO_WINKLER = 0.9  # of the two texts: typing mistakes
MIN_PREFIX_CHARS = 3  # half-typed queries


def hide_rewordings(connection: duckdb.DuckDBPyConnection) -> int:
    """Set `phrases.evaluated` where the query equals a dev or test query, shares half of its words, is a misspelling of it or its
    beginning; returns how many. Candidates for a misspelling start with the same letter and are at most twice as long.
    """
    connection.execute(
        f"""CREATE TABLE evaluated AS SELECT DISTINCT query FROM judged WHERE split IN ('dev', 'test');
            CREATE TABLE words AS SELECT query, word, count(*) OVER (PARTITION BY query) AS num_words FROM (
              SELECT query, unnest(list_distinct(string_split(query, ' '))) AS word FROM (
                SELECT query FROM phrases UNION SELECT query FROM evaluated));
            CREATE TABLE hidden_queries AS
              SELECT query FROM evaluated
              UNION SELECT ours.query FROM words AS ours
                JOIN (SELECT words.* FROM words SEMI JOIN evaluated USING (query)) AS theirs USING (word)
                GROUP BY ours.query, theirs.query, ours.num_words, theirs.num_words
                HAVING count(*) >= {MIN_JACCARD} * (ours.num_words + theirs.num_words - count(*))
              UNION SELECT phrases.query FROM phrases JOIN evaluated ON left(phrases.query, 1) = left(evaluated.query, 1)
                AND 2 * least(length(phrases.query), length(evaluated.query)) >= greatest(length(phrases.query), length(evaluated.query))
                WHERE jaro_winkler_similarity(phrases.query, evaluated.query) >= {MIN_JARO_WINKLER}
              UNION SELECT phrases.query FROM phrases JOIN evaluated ON left(phrases.query, 1) = left(evaluated.query, 1)
                WHERE length(phrases.query) >= {MIN_PREFIX_CHARS} AND starts_with(evaluated.query, phrases.query);
            UPDATE phrases SET evaluated = true WHERE query IN (SELECT query FROM hidden_queries);
            DROP TABLE words; DROP TABLE hidden_queries"""
    )
    return number(connection, "SELECT count(*) FROM phrases WHERE evaluated")
