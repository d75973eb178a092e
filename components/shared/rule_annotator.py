"""Sub-judgments by rules and by dictionaries that the catalogue itself is: brands, categories, colors, attribute values, numbers with
units, negations, and what an accessory is for.

The rules would rather say nothing than guess. A query word that no dictionary knows might name a kind of item, so then nothing is said
about the category; a color that no shopper ever types is not compared with one that was asked. `learned_words` narrows the first gap: what
other queries' judgments say a word means. All of it is joins over words, in DuckDB, so a million pairs take seconds.
"""

import duckdb
import pyarrow as pa

from components.shared.schema import ASPECTS
from components.shared.units import UNITS

NAME = "rules"
NEGATIONS = ("without", "no", "not", "except", "excluding", "ohne", "sin", "sans")
LINKS = ("a", "an", "the", "and", "of", "in", "by", "set", "from", "size")  # say nothing
FITS = ("fits", "compatible with", "compatibility", "compatible devices", "for", "suitable for", "designed for")
LONGEST = 4  # words of a phrase
NOUN_SHARE, NOUN_COVER = 0.95, 0.2  # of a phrase's items in one category, and of that category's titles with the phrase
LEARNED_QUERIES, LEARNED_GAIN = 2, 0.3  # other queries with the word; their mean gain in its category, twice that of the next

MACROS = r"""
CREATE MACRO words_of(text) AS regexp_extract_all(lower(coalesce(text, '')), '[0-9]+(?:\.[0-9]+)?|[\p{L}\p{M}]+');
CREATE MACRO stem(word) AS CASE WHEN length(word) > 3 AND word LIKE '%s' AND word NOT LIKE '%ss' THEN word[:-2] ELSE word END;
CREATE MACRO norm(text) AS array_to_string(list_transform(words_of(text), lambda one: stem(one)), ' ');
CREATE MACRO is_number(word) AS regexp_full_match(word, '[0-9.]+');
"""
"""Of DuckDB: the words of a text, a word's singular, a text as a list of these, whether a word is a number."""

_ITEMS = """
CREATE TABLE fits AS SELECT norm(unnest($fits::VARCHAR[])) AS name;
CREATE TABLE levels AS  -- of the category path; the last is the leaf
SELECT item_id, norm(level) AS value, place = len(path) AS is_leaf
FROM (SELECT item_id, path, unnest(path) AS level, generate_subscripts(path, 1) AS place
      FROM (SELECT item_id, regexp_split_to_array(category, '\\s*[>/]\\s*') AS path FROM items WHERE category <> ''));
CREATE TABLE pairs_of_attributes AS
SELECT item_id, norm(split_part(one, ':', 1)) AS name, trim(substr(one, strpos(one, ':') + 1)) AS value
FROM (SELECT item_id, unnest(regexp_split_to_array(attributes, '\\s*[;|\\n]\\s*')) AS one FROM items WHERE attributes <> '')
WHERE strpos(one, ':') > 0;
CREATE TABLE texts AS
SELECT 'item' AS side, item_id AS key, title AS text FROM items UNION ALL SELECT 'query', query_id, query FROM queries
UNION ALL SELECT 'value', item_id, value FROM pairs_of_attributes;
"""

# every phrase of up to LONGEST words that does not cross a marker ("without", "for", "with")
_GRAMS = """
CREATE TABLE tokens AS
WITH marked AS (
    SELECT *, CASE WHEN word IN $negations THEN 'negation' WHEN word = 'for' THEN 'for' WHEN word = 'with' THEN 'with' END AS marker
    FROM (SELECT side, key, text_no, unnest(words) AS word, generate_subscripts(words, 1) AS place
          FROM (SELECT side, key, row_number() OVER () AS text_no, words_of(text) AS words FROM texts))
)
SELECT side, key, text_no, word, stem(word) AS stem, place, marker IS NOT NULL AS is_marker,
    coalesce(last_value(marker IGNORE NULLS) OVER (PARTITION BY text_no ORDER BY place), 'main') AS segment
FROM marked;
CREATE TABLE grams AS
WITH ahead AS (
    SELECT *, list(stem) OVER following AS stems, list(word) OVER following AS words, list(is_marker) OVER following AS markers
    FROM tokens
    WINDOW following AS (PARTITION BY text_no ORDER BY place ROWS BETWEEN CURRENT ROW AND $ahead FOLLOWING)
)
SELECT side, key, text_no, segment, place, length, stems[:length] AS stems,
    array_to_string(stems[:length], ' ') AS phrase, array_to_string(words[:length], ' ') AS span
FROM ahead, range(1, $ahead + 2) AS sizes(length)
WHERE length <= len(stems) AND NOT list_contains(markers[:length], true);
"""

_LEXICON = """
CREATE TABLE units AS
SELECT stem(unit) AS unit, dimension, factor FROM known_units
UNION ALL
SELECT DISTINCT stem(words_of(value)[2]), stem(words_of(value)[2]), 1.0 FROM pairs_of_attributes
WHERE len(words_of(value)) = 2 AND is_number(words_of(value)[1]) AND NOT is_number(words_of(value)[2])
    AND stem(words_of(value)[2]) NOT IN (SELECT stem(unit) FROM known_units);
CREATE TABLE said AS  -- phrase -> what it says
SELECT DISTINCT norm(brand) AS phrase, 'brand' AS kind, norm(brand) AS value FROM items WHERE norm(brand) <> ''
UNION SELECT DISTINCT norm(color), 'color', norm(color) FROM items WHERE norm(color) <> ''
UNION SELECT DISTINCT value, 'category', value FROM levels
UNION SELECT DISTINCT name, 'feature', name FROM pairs_of_attributes WHERE norm(value) IN ('yes', 'no', 'true', 'false')
UNION SELECT DISTINCT norm(value), 'attribute ' || name, norm(value) FROM pairs_of_attributes
    WHERE norm(value) NOT IN ('', 'yes', 'no', 'true', 'false') AND NOT regexp_matches(value, '[0-9]') AND name NOT IN (FROM fits)
        AND len(words_of(value)) <= 3
UNION SELECT DISTINCT phrase, 'model', phrase FROM grams
    JOIN (SELECT DISTINCT item_id AS key, norm(value) AS model FROM pairs_of_attributes WHERE name IN (FROM fits)) USING (key)
    WHERE side = 'value' AND length >= 2 AND suffix(model, phrase) AND is_number(stems[-1]) AND regexp_matches(phrase, '[a-z]');
CREATE TABLE nouns AS  -- what titles of one category call its items
WITH telling AS (
    SELECT key, phrase, any_value(stems) AS stems FROM grams
    WHERE side = 'item' AND segment = 'main' AND length < $longest
        AND NOT list_has_any(stems, (SELECT list(DISTINCT word) FROM (
            SELECT unnest(string_split(phrase, ' ')) AS word FROM said WHERE kind NOT IN ('category', 'model'))))
        AND NOT list_has_any(stems, (SELECT list(unit) FROM units)) AND NOT list_has_any(stems, $links::VARCHAR[])
        AND NOT regexp_matches(phrase, '[0-9]')
    GROUP BY key, phrase
), counted AS (
    SELECT phrase, value, count(*) AS together, sum(count(*)) OVER (PARTITION BY phrase) AS everywhere
    FROM telling JOIN levels ON key = item_id AND is_leaf GROUP BY phrase, value
), kept AS (
    SELECT phrase, value, everywhere FROM counted
    JOIN (SELECT value, count(*) AS items FROM levels WHERE is_leaf GROUP BY value) USING (value)
    WHERE together >= $share * everywhere AND together >= $cover * items
)
SELECT phrase, value FROM kept AS one
WHERE NOT EXISTS (FROM kept AS longer WHERE longer.phrase <> one.phrase AND longer.everywhere >= 0.9 * one.everywhere
    AND contains(' ' || longer.phrase || ' ', ' ' || one.phrase || ' '));
CREATE TABLE lexicon AS  -- a phrase that says two things says neither
SELECT phrase, CASE WHEN count(DISTINCT kind || value) = 1 THEN any_value(kind) ELSE 'unsure' END AS kind, any_value(value) AS value
FROM (SELECT * FROM said UNION SELECT phrase, 'category', value FROM nouns WHERE phrase NOT IN (SELECT phrase FROM said)) GROUP BY phrase;
"""

_FOUND = """
CREATE TABLE found AS  -- what phrases say; of phrases that overlap, the longest, but a model's name keeps its brand
WITH all_found AS (
    SELECT side, key, text_no, segment, place, length, span, kind, value, NULL::DOUBLE AS number FROM grams JOIN lexicon USING (phrase)
    WHERE side = 'query'
    UNION ALL
    SELECT side, key, text_no, segment, place, length, span, 'number ' || dimension, '', stems[1]::DOUBLE * factor
    FROM grams JOIN units ON unit = stems[2] WHERE length = 2 AND regexp_full_match(stems[1], '[0-9]+(\\.[0-9]+)?')
)
SELECT * FROM all_found AS one
WHERE NOT EXISTS (FROM all_found AS other WHERE other.text_no = one.text_no AND other.length > one.length
    AND NOT (one.kind = 'brand' AND other.kind = 'model')
    AND other.place < one.place + one.length AND one.place < other.place + other.length);
CREATE TABLE unknown AS
SELECT key AS query_id, segment, place, word FROM tokens AS one
WHERE side = 'query' AND NOT is_marker AND word NOT IN $links
    AND NOT EXISTS (FROM found WHERE found.text_no = one.text_no AND one.place >= found.place AND one.place < found.place + found.length);
"""

_ASKED = """
CREATE TABLE asked AS
SELECT DISTINCT key AS query_id, kind, value, number, span,
    CASE WHEN segment = 'negation' THEN 'negation' WHEN segment = 'for' THEN 'accessory_for' WHEN kind IN ('brand', 'category') THEN kind
         ELSE 'attribute' END AS aspect
FROM found
WHERE side = 'query' AND kind <> 'unsure'
    AND CASE segment WHEN 'for' THEN kind = 'model' WHEN 'main' THEN kind <> 'feature' WHEN 'negation' THEN kind <> 'model' ELSE true END;
INSERT INTO asked SELECT query_id, 'category', value, NULL, phrase, 'category' FROM learned;
CREATE TABLE unsure AS
SELECT query_id, 'category' AS aspect FROM unknown WHERE segment = 'main' AND query_id NOT IN (SELECT query_id FROM learned)
    AND query_id NOT IN (SELECT query_id FROM asked WHERE aspect = 'category')
UNION SELECT query_id, 'category' FROM asked WHERE aspect = 'category' GROUP BY query_id HAVING count(DISTINCT value) > 1
UNION SELECT query_id, 'attribute' FROM unknown WHERE is_number(word)
UNION SELECT key, unnest(['attribute', 'brand', 'category']) FROM found WHERE side = 'query' AND kind = 'unsure'
UNION SELECT key, 'attribute' FROM found WHERE side = 'query' AND kind = 'feature' AND segment = 'main'
UNION SELECT key, CASE segment WHEN 'for' THEN 'accessory_for' ELSE 'negation' END FROM tokens
    WHERE side = 'query' AND is_marker AND segment IN ('for', 'negation')
        AND NOT EXISTS (FROM asked WHERE query_id = key AND aspect = CASE segment WHEN 'for' THEN 'accessory_for' ELSE 'negation' END);
CREATE TABLE has AS
SELECT item_id, 'brand' AS kind, norm(brand) AS value, NULL::DOUBLE AS number, true AS comparable, brand AS span
    FROM items WHERE brand <> ''
UNION ALL SELECT item_id, 'category', value, NULL, true, value FROM levels
UNION ALL SELECT item_id, 'color', norm(color), NULL, norm(color) IN (SELECT value FROM asked), color FROM items WHERE color <> ''
UNION ALL SELECT item_id, 'attribute ' || name, norm(value), NULL, norm(value) IN (SELECT value FROM asked), value FROM pairs_of_attributes
UNION ALL SELECT item_id, 'feature', CASE WHEN norm(value) IN ('yes', 'true') THEN name END, NULL, true, name FROM pairs_of_attributes
    WHERE norm(value) IN ('yes', 'no', 'true', 'false')
UNION ALL SELECT key, kind, '', number, true, span FROM found WHERE side IN ('item', 'value') AND starts_with(kind, 'number')
UNION ALL SELECT key, CASE segment WHEN 'for' THEN 'fits' ELSE 'model' END, string_agg(stem, ' ' ORDER BY place), NULL, true,
    string_agg(word, ' ' ORDER BY place) FROM tokens WHERE side = 'item' AND NOT is_marker GROUP BY key, text_no, segment = 'for', segment
UNION ALL SELECT item_id, 'fits', norm(value), NULL, true, value FROM pairs_of_attributes WHERE name IN (FROM fits);
"""

_NO_LEARNED = "CREATE TABLE learned AS SELECT ''::VARCHAR AS query_id, ''::VARCHAR AS phrase, ''::VARCHAR AS value LIMIT 0"
# the words that no dictionary knows, and the category whose items other queries with these words were content with
_LEARNED = """
CREATE TABLE learned AS
WITH phrases AS (
    SELECT query_id, string_agg(word, ' ' ORDER BY place) AS phrase FROM unknown
    WHERE segment = 'main' AND query_id NOT IN (SELECT key FROM found WHERE side = 'query' AND kind IN ('category', 'unsure'))
    GROUP BY query_id
), own AS (
    SELECT phrase, value, query_id, sum(gain) AS gains, count(*) AS pairs
    FROM phrases JOIN judgments USING (query_id) JOIN levels USING (item_id) WHERE is_leaf GROUP BY ALL
), whole AS (
    SELECT phrase, value, sum(gains) AS gains, sum(pairs) AS pairs, count(DISTINCT query_id) AS queries FROM own GROUP BY ALL
), others AS (
    SELECT query_id, phrase, whole.value, whole.queries - (own.query_id IS NOT NULL)::INT AS queries,
        (whole.gains - coalesce(own.gains, 0)) / nullif(whole.pairs - coalesce(own.pairs, 0), 0) AS gain
    FROM phrases JOIN whole USING (phrase) LEFT JOIN own USING (query_id, phrase, value)
)
SELECT query_id, phrase, value FROM others
WINDOW best AS (PARTITION BY query_id ORDER BY gain DESC NULLS LAST, value)
QUALIFY row_number() OVER best = 1 AND queries >= $queries AND gain >= $gain AND gain >= 2 * coalesce(lead(gain) OVER best, 0)
"""

_VERDICTS = """
WITH numbered AS (SELECT *, row_number() OVER () AS number_of_pair FROM pairs),
compared AS (
    SELECT number_of_pair, aspect, asked.value, asked.span AS query_span, fits, has.comparable, has.span AS item_span
    FROM numbered JOIN asked USING (query_id)
    LEFT JOIN has ON has.item_id = numbered.item_id AND CASE WHEN asked.kind <> 'model' THEN has.kind = asked.kind
        WHEN aspect = 'accessory_for' THEN has.kind = 'fits' ELSE has.kind = 'model' END,
    LATERAL (SELECT CASE WHEN asked.kind = 'model' THEN contains(' ' || has.value || ' ', ' ' || asked.value || ' ')
        WHEN asked.number IS NOT NULL THEN abs(has.number - asked.number) <= 0.01 * asked.number ELSE has.value = asked.value END AS fits)
), decided AS (
    SELECT number_of_pair, aspect, query_span, coalesce(bool_or(fits), false) AS fits,
        coalesce(bool_or(comparable), false) OR aspect IN ('accessory_for', 'negation') AS comparable,
        coalesce(any_value(item_span) FILTER (fits), any_value(item_span), '') AS item_span
    FROM compared GROUP BY number_of_pair, aspect, query_span
), told AS (
    SELECT number_of_pair, aspect, CASE aspect WHEN 'negation' THEN fits ELSE comparable AND NOT fits END AS misses,
        NOT (fits OR comparable) AS open, query_span, item_span
    FROM decided
), judged AS (
    SELECT number_of_pair, aspect, CASE WHEN bool_or(misses) THEN 'mismatch' WHEN NOT bool_or(open) THEN 'match' END AS verdict,
        arg_max(query_span, misses::INT) AS query_span, arg_max(item_span, misses::INT) AS item_span
    FROM told GROUP BY number_of_pair, aspect
)
SELECT query_id, item_id, aspect, coalesce(verdict, 'not_mentioned') AS verdict, query_span,
    CASE WHEN verdict IS NOT NULL THEN item_span END AS item_span
FROM numbered CROSS JOIN (SELECT unnest($aspects) AS aspect) LEFT JOIN judged USING (number_of_pair, aspect)
    LEFT JOIN unsure USING (query_id, aspect)
    LEFT JOIN (SELECT DISTINCT query_id, aspect, true AS is_asked FROM asked) USING (query_id, aspect)
WHERE CASE WHEN unsure.query_id IS NULL THEN is_asked IS NULL OR verdict IS NOT NULL ELSE aspect <> 'category' AND verdict = 'mismatch' END
ORDER BY number_of_pair, list_position($aspects, aspect)
"""


class RuleAnnotator:
    """Reads queries and items once, then annotates any of their pairs.

    Args:
        queries: query_id, query. items: table `items`.
        judgments: query_id, item_id, gain; where given, words that no dictionary knows get the category that judgments of *other* queries
            speak for.
    """

    name = NAME

    def __init__(self, queries: pa.Table, items: pa.Table, judgments: pa.Table | None = None) -> None:
        self._connection = duckdb.connect()
        self._register(queries=queries.select(["query_id", "query"]), items=items)
        self._register(known_units=pa.table(dict(zip(("unit", "dimension", "factor"), map(list, zip(*UNITS, strict=True)), strict=True))))
        settings = {
            "negations": NEGATIONS, "fits": FITS, "links": LINKS, "longest": LONGEST, "ahead": LONGEST - 1, "share": NOUN_SHARE,
            "cover": NOUN_COVER, "queries": LEARNED_QUERIES, "gain": LEARNED_GAIN,
        }  # fmt: skip
        if judgments is not None:
            self._register(judgments=judgments.select(["query_id", "item_id", "gain"]))
        learned = _NO_LEARNED if judgments is None else _LEARNED
        for part in (MACROS, _ITEMS, _GRAMS, _LEXICON, _FOUND, learned, _ASKED):
            for statement in duckdb.extract_statements(part):
                used = {name: settings[name] for name in statement.named_parameters}
                self._connection.execute(statement, {name: list(v) if isinstance(v, tuple) else v for name, v in used.items()})

    def annotate(self, pairs: pa.Table) -> pa.Table:
        """Rows query_id, item_id, aspect, verdict, query_span, item_span of `pairs`, in their order; none where the rules cannot tell."""
        self._register(pairs=pairs.select(["query_id", "item_id"]))
        return self._connection.sql(_VERDICTS, params={"aspects": list(ASPECTS)}).to_arrow_table()

    def _register(self, **tables: pa.Table) -> None:
        for name, table in tables.items():
            self._connection.register(name, table)
