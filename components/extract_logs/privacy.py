"""What never leaves the warehouse: personal data typed into the search box, and who a client is.

Patterns are looked for once per distinct normalised query. Names, addresses and birthdays have no pattern; a query that carries
one is typed by one client, and queries of few clients are dropped (`min_clients`).
"""

import hashlib
import hmac
import os

import duckdb

KINDS = ("email", "iban", "card", "ip", "order", "ssn", "phone")
DEVELOPMENT_SALT = "relevance-distillery development salt"
HASH_CHARS = 16

_EMAIL = r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"
# four groups of four are a card even when mistyped; a bare number is one from 14 digits on (13 are a barcode) and if Luhn agrees
_CARD = r"\b\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{4}\b|\b[3-6]\d{3}[ -]\d{6}[ -]\d{4,5}\b|\b[3-6]\d{13,18}\b"
# a marketplace's 3-7-7 digits, or any longer number that is said to be an order's
_ORDER = (
    r"(?:\border(?:\s*(?:no|number|id|nr)\b)?[\s.:#]*)?\b\d{3}-\d{7}-\d{7}\b|\border(?:\s*(?:no|number|id|nr)\b)?[\s.:#]*\d[\d-]{4,}\d\b"
)
_PHONE = r"\+\d[\d ().-]{6,16}\d\b|\(?\b\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b|\b0\d{2,4}[ /.-]\d{5,8}\b"
_SSN = r"\b\d{3}-\d{2}-\d{4}\b"
# country, check digits, one group of letters or digits, then digits: the check digits decide (ISO 13616, mod 97)
_IBAN = r"\b[a-z]{2}\d{2} ?[a-z0-9]{4}(?: ?\d{4}){1,6}(?: ?\d{1,3})?\b"
_IP = r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b"  # below 8 digits it is taken for a version number
_GROUPED = r"^\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{4}$"

PLACEHOLDER = f"<(?:{'|'.join(KINDS)})>"


def define_scrub(connection: duckdb.DuckDBPyConnection) -> None:
    """SQL macros: `luhn(digits)`, `scrub(query)` with placeholders `<email>` ... , `only_placeholders(query)`."""
    connection.execute(
        """CREATE MACRO luhn(digits) AS list_sum(list_transform(range(1, length(digits) + 1), lambda i:
             CASE WHEN i % 2 = 1 THEN CAST(digits[-i] AS INTEGER)
                  WHEN digits[-i] > '4' THEN 2 * CAST(digits[-i] AS INTEGER) - 9
                  ELSE 2 * CAST(digits[-i] AS INTEGER) END)) % 10 = 0"""
    )
    connection.execute(
        """CREATE MACRO iban_holds(found) AS list_reduce(list_prepend(0, list_transform(
             string_split(substr(found, 5) || substr(found, 1, 4), ''),
             lambda c: CASE WHEN c >= 'a' THEN ascii(c) - 87 ELSE CAST(c AS INTEGER) END)),
             lambda rest, value: (rest * CASE WHEN value > 9 THEN 100 ELSE 10 END + value) % 97) = 1"""
    )
    chain = f"regexp_replace(query, '{_EMAIL}', '<email>', 'g')"
    for kind, pattern, test in (
        ("iban", _IBAN, "iban_holds(replace(found, ' ', ''))"),
        ("card", _CARD, f"regexp_matches(found, '{_GROUPED}') OR luhn(regexp_replace(found, '[ -]', '', 'g'))"),
        ("ip", _IP, "length(replace(found, '.', '')) >= 8"),
    ):
        connection.execute(
            f"""CREATE MACRO scrub_{kind}(query) AS CASE WHEN regexp_matches(query, '{pattern}') THEN list_reduce(
                  list_prepend(query, list_filter(regexp_extract_all(query, '{pattern}'), lambda found: {test})),
                  lambda whole, found: replace(whole, found, '<{kind}>')) ELSE query END"""
        )
        chain = f"scrub_{kind}({chain})"
    for kind, pattern in (("order", _ORDER), ("ssn", _SSN), ("phone", _PHONE)):
        chain = f"regexp_replace({chain}, '{pattern}', '<{kind}>', 'g')"
    connection.execute(f"CREATE MACRO scrub(query) AS CASE WHEN regexp_matches(query, '[0-9@]') THEN {chain} ELSE query END")
    connection.execute(
        f"""CREATE MACRO only_placeholders(query) AS regexp_matches(query, '{PLACEHOLDER}')
              AND NOT regexp_matches(regexp_replace(query, '{PLACEHOLDER}', '', 'g'), '[\\p{{L}}\\p{{N}}]')"""
    )


def read_salt(variable: str) -> tuple[bytes, bool]:
    """(salt of client hashes, whether it is the fixed development salt that anybody can read in this file)."""
    salt = os.environ.get(variable, "")
    return (salt or DEVELOPMENT_SALT).encode(), not salt


def hash_client(salt: bytes, client: str) -> str:
    """A client as it stands in table `events` (`codes.py` does this for whole columns): 16 hex characters."""
    return hmac.new(salt, client.encode(), hashlib.sha256).hexdigest()[:HASH_CHARS]
