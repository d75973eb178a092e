"""Tables of serving: one request's ways, and what the server costs."""

from page_parts import load, machine_line, table


def latency() -> str:
    record = load("latency")
    rows = [
        [
            way.replace("_", " "),
            *(f"{one[key]:.0f}" for key in ("fastest_ms", "p50_ms", "p95_ms", "p99_ms")),
            f"{one['times_predict']:.2f}",
            f"{one['spearman']:.4f}" if "spearman" in one else "-",
            f"{one['largest_difference']:.1e}" if "largest_difference" in one else "-",
        ]
        for way, one in record["result"]["ways"].items()
    ]
    settings = record["settings"]
    intro = f"{machine_line(record)} {settings['requests']} requests, {settings['rounds']} rounds, {settings['threads']} threads."
    header = ["way", "fastest ms", "p50 ms", "p95 ms", "p99 ms", "x CrossEncoder.predict", "Spearman to fp32", "largest difference"]
    return f"{intro}\n\n{table(header, rows)}"


def per_pair() -> str:
    """Time of one pair by the items of a request."""
    of_way = dict(load("latency")["result"]["per_pair"])
    head = f"`{of_way.pop('way').replace('_', ' ')}`:"
    rows = [[items, f"{one['p50_ms']:.2f}", f"{one['p95_ms']:.2f}"] for items, one in of_way.items()]
    return f"{head}\n\n{table(['items of a request', 'ms of a pair at p50', 'at p95'], rows)}"


def int8_export() -> str:
    """What the export's own check said, on pairs of train queries; what it refused is not served."""
    report = load("latency")["result"]["export"]
    rows = [
        [name, f"{one['spearman_within']:.4f}", f"{one['spearman_across']:.4f}", f"{one['largest_difference']:.1e}"]
        for name, one in report["files"].items()
    ]
    refused = "".join(f"\n\n`{name}` is refused: {why}." for name, why in report["refused"].items())
    return table(["file", "Spearman within queries", "across", "largest difference"], rows) + refused


def serving() -> str:
    record = load("serving")
    result, settings = record["result"], record["settings"]
    alone = [
        [
            items,
            f"{one['runtime_p50_ms']:.2f}",
            f"{one['server_p50_ms']:.2f}",
            "{added_p50_ms:.2f} [{added_low_ms:.2f}, {added_high_ms:.2f}]".format(**one),
        ]
        for items, one in result["one_client"].items()
    ]
    loaded = [
        [arm.replace("_", " "), f"{one['requests_per_s']:.1f}", f"{one['p50_ms']:.0f}", f"{one['p99_ms']:.0f}",
         f"{one['pairs_a_batch']:.0f}", f"{one['cached_share']:.0%}"]
        for arm, one in result["load"].items()
    ]  # fmt: skip
    first = table(["items", "runtime, p50 ms", "server, p50 ms", "median difference [95 %], ms"], alone)
    second = table(["with", "requests/s", "p50 ms", "p99 ms", "pairs a batch", "from the cache"], loaded)
    what = f"{settings['clients']} clients, {settings['load_items']} items a request:"
    return f"{machine_line(record)} One client:\n\n{first}\n\n{what}\n\n{second}"
