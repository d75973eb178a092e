"""The essence of extract_logs as others would write it: python benchmarks/extract_logs_peers.py {duckdb,polars,pandas} LOG OUT

The same rules on the same log (malformed rows, duplicates, bots by rate, by silence and by top clicks, rare queries), written for one
engine by hand: DuckDB's SQL as the room had it before its rules became Ibis expressions, polars' lazy frames, pandas. Each writes
events by time with hashed clients, and interactions with position-corrected impressions, as Parquet. What they leave out: scrubbing,
Unicode normalisation, sessions and reformulations, table `queries`, bots by pace and by blind clicks, quarantine and lineage, what was
dropped and why, the checks of the tables, and logs whose files differ. pandas and polars also write sessions unhashed, and
hold everything in memory.
"""

import hashlib
import hmac
import os
import sys
from pathlib import Path

SALT = b"relevance-distillery development salt"
MIN_CLIENTS, BURST, BURST_US, SILENT, CLICKS, TOP, TOP_SHARE = 3, 100, 300_000_000, 2000, 50, 3, 0.98
ACTIONS = ("impression", "click", "add_to_cart", "purchase")
DAY_US = 86_400_000_000


def by_duckdb(log: Path, out: Path, threads: int, memory_limit_mib: int) -> None:
    """Hand-written SQL."""
    import duckdb

    pad = SALT.ljust(64, b"\0")
    inner, outer = (bytes(byte ^ mask for byte in pad).hex() for mask in (0x36, 0x5C))
    settings = {
        "threads": threads,
        "memory_limit": f"{memory_limit_mib}MiB",
        "temp_directory": f"{out}/spill",
        "preserve_insertion_order": False,
    }
    sql = duckdb.connect(f"{out}/peer.duckdb", config=settings)
    queries = f"read_parquet('{log}/ubi_queries/*/*.parquet', hive_partitioning = false)"
    sql.execute(
        f"""SET TimeZone = 'UTC';
        CREATE MACRO hidden(id) AS CAST('0x' || left(sha256(from_hex('{outer}') ||
          from_hex(sha256(from_hex('{inner}') || encode(id)))), 16) AS UBIGINT);
        CREATE TABLE staged AS SELECT * FROM (
          SELECT nullif(query_id, '') AS query_id, nullif(client_id, '') AS client, nullif(session_id, '') AS session,
                 list_position({list(ACTIONS)}, action_name) - 1 AS action, nullif(event_attributes.object.object_id, '') AS item_id,
                 event_attributes.position.ordinal AS position, epoch_us(TRY_CAST(timestamp AS TIMESTAMPTZ)) AS us
          FROM read_parquet('{log}/ubi_events/*/*.parquet', hive_partitioning = false))
        WHERE query_id IS NOT NULL AND action IS NOT NULL AND item_id IS NOT NULL AND us IS NOT NULL AND position BETWEEN 1 AND 100000;
        CREATE TABLE searches AS SELECT query_id, unnest(max({{
          us: epoch_us(TRY_CAST(timestamp AS TIMESTAMPTZ)), query: lower(trim(user_query)), client: client_id}}))
          FROM {queries} GROUP BY query_id;
        CREATE TABLE phrases AS SELECT row_number() OVER () AS phrase, query FROM (SELECT DISTINCT query FROM searches);
        CREATE TABLE typed AS SELECT row_number() OVER (ORDER BY query_id) AS search, query_id, phrase, us, hidden(client) AS client
          FROM searches JOIN phrases USING (query);
        CREATE TABLE people AS SELECT name, hidden(name) AS hash FROM (
          SELECT client AS name FROM staged UNION SELECT session FROM staged) WHERE name IS NOT NULL;
        CREATE TABLE known AS
        SELECT md5_number(concat_ws(chr(31), query_id, staged.client, session, staged.us, action, item_id, position)) AS id, search, phrase,
               clients.hash AS client, sessions.hash AS session, staged.us, action, item_id, position
        FROM staged JOIN typed USING (query_id) LEFT JOIN people AS clients ON clients.name = staged.client
        LEFT JOIN people AS sessions ON sessions.name = staged.session;
        DROP TABLE staged"""
    )
    sql.execute(
        f"""CREATE TABLE repeated AS SELECT id FROM known GROUP BY id HAVING count(*) > 1;
        CREATE VIEW events AS SELECT * FROM known ANTI JOIN repeated USING (id)
          UNION ALL SELECT any_value(COLUMNS(*)) FROM known SEMI JOIN repeated USING (id) GROUP BY id;
        CREATE TABLE bots AS
        SELECT client FROM typed GROUP BY client, us // {BURST_US} HAVING count(*) > {BURST} UNION
        SELECT client FROM events GROUP BY client
        HAVING (count(*) FILTER (action = 1) = 0 AND count(*) FILTER (action = 0) >= {SILENT})
            OR (count(*) FILTER (action = 1) >= {CLICKS}
                AND count(*) FILTER (action = 1 AND position <= {TOP}) >= {TOP_SHARE} * count(*) FILTER (action = 1));
        CREATE TABLE kept_phrases AS SELECT phrase FROM typed ANTI JOIN bots USING (client)
          GROUP BY phrase HAVING count(DISTINCT client) >= {MIN_CLIENTS};
        CREATE VIEW kept AS SELECT * FROM events SEMI JOIN kept_phrases USING (phrase) ANTI JOIN bots USING (client);
        CREATE TABLE shown AS
        SELECT search, phrase, item_id, min(client) AS client, min(us) // {DAY_US} AS day, bool_or(action = 1) AS clicked,
               coalesce(min(position) FILTER (action = 0), min(position), 1) AS position FROM kept GROUP BY search, phrase, item_id;
        COPY (SELECT query, item_id, DATE '1970-01-01' + CAST(day AS INTEGER) AS day, count(*) AS impressions,
                     sum(clicked::INTEGER) AS clicks, count(DISTINCT client) AS clients,
                     sum(CAST(round(1e9 / least(position, 1000)) AS BIGINT)) / 1e9 AS corrected
              FROM shown JOIN phrases USING (phrase) GROUP BY query, item_id, day ORDER BY query, item_id, day)
          TO '{out}/interactions.parquet' (COMPRESSION zstd);
        COPY (SELECT lower(to_hex(id)) AS event_id, query, lower(to_hex(client)) AS client, lower(to_hex(session)) AS session_id,
                     make_timestamp(us) AS timestamp, {list(ACTIONS)}[action + 1] AS action, item_id, position
              FROM kept JOIN phrases USING (phrase) ORDER BY us, id) TO '{out}/events.parquet' (COMPRESSION zstd)"""
    )


def by_polars(log: Path, out: Path, threads: int) -> None:
    """Lazy frames, collected by the streaming engine."""
    os.environ["POLARS_MAX_THREADS"] = str(threads)  # read when polars is loaded
    import polars as pl

    def us(name: str) -> pl.Expr:
        return pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", strict=False).cast(pl.Int64)

    events, searches = (pl.scan_parquet(f"{log}/{name}/*/*.parquet", hive_partitioning=False) for name in ("ubi_events", "ubi_queries"))
    thing, place = pl.col("event_attributes").struct.field("object"), pl.col("event_attributes").struct.field("position")
    events = events.select(
        "query_id", client=pl.col("client_id"), session=pl.col("session_id"), action="action_name", us=us("timestamp"),
        item_id=thing.struct.field("object_id"), position=place.struct.field("ordinal"),
    ).filter(
        pl.col("query_id").is_not_null(), pl.col("action").is_in(ACTIONS), pl.col("item_id") != "", pl.col("us").is_not_null(),
        pl.col("position").is_between(1, 100_000),
    ).unique()  # fmt: skip
    typed = searches.select(
        "query_id", client=pl.col("client_id"), us=us("timestamp"), query=pl.col("user_query").str.strip_chars().str.to_lowercase()
    )
    typed = typed.sort("us").unique("query_id", keep="last").collect(engine="streaming").lazy()
    events = events.join(typed.select("query_id", "query"), on="query_id").collect(engine="streaming").lazy()
    is_click = pl.col("action") == "click"
    habits = events.group_by("client").agg(
        shown=(pl.col("action") == "impression").sum(), clicks=is_click.sum(), top=(is_click & (pl.col("position") <= TOP)).sum()
    )
    silent = (pl.col("clicks") == 0) & (pl.col("shown") >= SILENT)
    bursts = typed.group_by("client", pl.col("us") // BURST_US).len().filter(pl.col("len") > BURST)
    found = habits.filter(silent | ((pl.col("clicks") >= CLICKS) & (pl.col("top") >= TOP_SHARE * pl.col("clicks"))))
    bots = pl.concat([bursts.select("client"), found.select("client")]).unique()
    often = (
        typed.join(bots, on="client", how="anti").group_by("query").agg(n=pl.col("client").n_unique()).filter(pl.col("n") >= MIN_CLIENTS)
    )
    kept = events.join(bots, on="client", how="anti").join(often, on="query", how="semi").collect(engine="streaming").lazy()
    seen = pl.col("position").filter(pl.col("action") == "impression").min()
    shown = kept.group_by("query_id", "query", "item_id").agg(
        client=pl.col("client").min(),
        day=pl.col("us").min() // DAY_US,
        clicked=is_click.any(),
        position=seen.fill_null(pl.col("position").min()),
    )
    weight = (1e9 / pl.col("position").clip(1, 1000)).round().cast(pl.Int64)
    counts = shown.group_by("query", "item_id", "day").agg(
        impressions=pl.len(), clicks=pl.col("clicked").sum(), clients=pl.col("client").n_unique(), corrected=weight.sum() / 1e9
    )
    counts = counts.with_columns(pl.col("day").cast(pl.Int32).cast(pl.Date)).sort("query", "item_id", "day")
    counts.sink_parquet(out / "interactions.parquet", compression="zstd")
    names = kept.select(pl.col("client")).unique().collect()["client"].to_list()
    hashes = pl.LazyFrame({"client": names, "hash": [_hash(name) for name in names]})
    event_id = pl.struct("query_id", "client", "session", "us", "action", "item_id", "position").hash()
    kept.join(hashes, on="client").with_columns(event_id=event_id).drop("query_id", "client").sort("us", "event_id").sink_parquet(
        out / "events.parquet", compression="zstd"
    )


def by_pandas(log: Path, out: Path) -> None:
    """Frames in memory, flattened by Arrow when they are read."""
    import pandas as pd
    import pyarrow.dataset as ds

    rows = ds.dataset(log / "ubi_events", format="parquet").to_table().flatten().flatten()
    columns = {"query_id": "query_id", "client_id": "client", "session_id": "session", "action_name": "action", "timestamp": "us"}
    columns |= {"event_attributes.object.object_id": "item_id", "event_attributes.position.ordinal": "position"}
    events = rows.select(list(columns)).to_pandas().rename(columns=columns)
    del rows
    events["us"] = _pandas_us(events["us"])
    sound = events["query_id"].notna() & events["action"].isin(ACTIONS) & (events["item_id"] != "") & events["us"].notna()
    events = events[sound & events["position"].between(1, 100_000)].drop_duplicates()
    typed = ds.dataset(log / "ubi_queries", format="parquet").to_table(["query_id", "client_id", "user_query", "timestamp"]).to_pandas()
    typed = typed.assign(us=_pandas_us(typed["timestamp"]), query=typed["user_query"].str.strip().str.lower())
    typed = typed.sort_values("us").drop_duplicates("query_id", keep="last").rename(columns={"client_id": "client"})
    events = events.merge(typed[["query_id", "query"]], on="query_id")
    is_click = events["action"] == "click"
    flags = pd.DataFrame(
        {
            "client": events["client"],
            "shown": events["action"] == "impression",
            "clicks": is_click,
            "top": is_click & (events["position"] <= TOP),
        }
    )
    habits = flags.groupby("client").sum()
    top = (habits["clicks"] >= CLICKS) & (habits["top"] >= TOP_SHARE * habits["clicks"])
    bursts = typed.groupby(["client", typed["us"] // BURST_US]).size()
    bots = set(habits.index[((habits["clicks"] == 0) & (habits["shown"] >= SILENT)) | top])
    bots |= set(bursts.index.get_level_values("client")[bursts > BURST])
    typists = typed[~typed["client"].isin(bots)].groupby("query")["client"].nunique()
    kept = events[~events["client"].isin(bots) & events["query"].isin(typists.index[typists >= MIN_CLIENTS])]
    seen = kept.assign(clicked=kept["action"] == "click", seen=kept["position"].where(kept["action"] == "impression"))
    by = seen.groupby(["query_id", "query", "item_id"], sort=False)
    shown = by.agg(
        client=("client", "min"), us=("us", "min"), clicked=("clicked", "any"), seen=("seen", "min"), position=("position", "min")
    ).reset_index()
    position = shown["seen"].fillna(shown["position"]).clip(1, 1000)
    shown = shown.assign(day=(shown["us"] // DAY_US).astype("int64"), corrected=(1e9 / position).round().astype("int64"))
    counts = shown.groupby(["query", "item_id", "day"]).agg(
        impressions=("client", "size"), clicks=("clicked", "sum"), clients=("client", "nunique"), corrected=("corrected", "sum")
    ).reset_index()  # fmt: skip
    counts["day"] = pd.to_datetime(counts["day"], unit="D").dt.date
    counts.assign(corrected=counts["corrected"] / 1e9).to_parquet(out / "interactions.parquet", compression="zstd")
    hashes = {name: _hash(name) for name in kept["client"].unique()}
    ids = pd.util.hash_pandas_object(kept[["query_id", "client", "session", "us", "action", "item_id", "position"]], index=False)
    kept.assign(hash=kept["client"].map(hashes), event_id=ids).drop(columns=["query_id", "client"]).sort_values(
        ["us", "event_id"]
    ).to_parquet(out / "events.parquet", compression="zstd")


def _pandas_us(texts):
    import pandas as pd

    return pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True).astype("datetime64[us, UTC]").astype("int64")


def _hash(name: str) -> str:
    return hmac.new(SALT, name.encode(), hashlib.sha256).hexdigest()[:16]


if __name__ == "__main__":
    name, log, out, threads, memory_limit_mib = sys.argv[1:]
    if name == "duckdb":
        by_duckdb(Path(log), Path(out), int(threads), int(memory_limit_mib))
    elif name == "polars":
        by_polars(Path(log), Path(out), int(threads))
    else:
        by_pandas(Path(log), Path(out))
