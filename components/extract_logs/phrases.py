"""What was typed -> phrases: normalised, scrubbed queries. Done once per distinct text, by our own functions and SQL macros."""

import ibis

from components.shared.rewordings import MIN_JACCARD, MIN_JARO_WINKLER, MIN_PREFIX_CHARS, find_rewordings
from components.shared.warehouse import Warehouse


def name_phrases(warehouse: Warehouse, searches: ibis.Table) -> None:
    """Tables `phrases` (phrase, query, query_id, judged, personal_only) and `spellings` (text -> phrase); needs table `judged`.

    Judged texts are public in the data set, so they are not scrubbed. A text that is empty once normalised has no phrase.
    """
    warehouse.keep("texts", searches.select("text").distinct())
    warehouse.sql.execute(
        """CREATE TABLE normal AS SELECT text, normalise(text) AS query FROM texts;
           CREATE TABLE clean_queries AS
           SELECT query, CASE WHEN query IN (SELECT query FROM judged) THEN query ELSE normalise(scrub(query)) END AS scrubbed
           FROM (SELECT DISTINCT query FROM normal WHERE query <> '');
           CREATE TABLE phrases AS
           SELECT row_number() OVER (ORDER BY query) AS phrase, query, judged.query_id IS NOT NULL AS judged,
                  coalesce(judged.query_id, 'q' || left(sha256(query), 16)) AS query_id,
                  judged.query_id IS NULL AND only_placeholders(query) AS personal_only
           FROM (SELECT DISTINCT scrubbed AS query FROM clean_queries)
           LEFT JOIN (SELECT query, min(query_id) AS query_id FROM judged GROUP BY query) AS judged USING (query);
           CREATE TABLE spellings AS
           SELECT text, phrase FROM normal JOIN clean_queries USING (query) JOIN phrases ON phrases.query = clean_queries.scrubbed"""
    )
    warehouse.drop("texts", "normal", "clean_queries")


def find_hidden(warehouse: Warehouse, *, hide_evaluated: bool) -> ibis.Table:
    """Table `hidden` (query): phrases that reword a dev or test query; empty unless they are to be hidden."""
    splits = "('dev', 'test')" if hide_evaluated else "('')"
    warehouse.sql.execute(f"CREATE TABLE evaluated AS SELECT DISTINCT query FROM judged WHERE split IN {splits}")
    find_rewordings(warehouse.sql, "phrases", "evaluated")
    warehouse.sql.execute("CREATE TABLE hidden AS SELECT DISTINCT query FROM rewordings; DROP TABLE rewordings")
    return warehouse.table("hidden")


def find_reworded(warehouse: Warehouse, pairs: ibis.Table) -> ibis.Table:
    """Table `reworded` (before, phrase): those of the pairs (before, phrase) in which one text rewords the other.

    They do when they share half of their words, are nearly the same letters (typing mistakes), or one begins the other; the bounds
    are those of `rewordings`.
    """
    warehouse.keep("turn_pairs", pairs)
    warehouse.sql.execute(
        f"""CREATE VIEW worded AS SELECT phrase, query, list_distinct(string_split(query, ' ')) AS words FROM phrases;
            CREATE TABLE reworded AS
            SELECT pairs.before, pairs.phrase FROM turn_pairs AS pairs
            JOIN worded AS a ON a.phrase = pairs.before JOIN worded AS b ON b.phrase = pairs.phrase
            WHERE len(list_intersect(a.words, b.words)) >= {MIN_JACCARD} * len(list_distinct(list_concat(a.words, b.words)))
               OR jaro_winkler_similarity(a.query, b.query) >= {MIN_JARO_WINKLER}
               OR (least(length(a.query), length(b.query)) >= {MIN_PREFIX_CHARS}
                   AND (starts_with(a.query, b.query) OR starts_with(b.query, a.query)))"""
    )
    warehouse.drop("turn_pairs")
    return warehouse.table("reworded")
