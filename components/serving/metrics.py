"""What Prometheus is told."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0)
PAIRS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)


class ServerMetrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        book = self.registry
        self.seconds = Histogram(
            "relevance_request_seconds", "From a request's head to its answer.", ["route"], buckets=SECONDS, registry=book
        )
        self.requests = Counter("relevance_requests", "Requests answered.", ["route", "status"], registry=book)
        self.pairs = Counter("relevance_pairs", "Pairs of query and item that were asked for.", registry=book)
        self.cached = Counter("relevance_cached_pairs", "Of them those whose score was kept.", registry=book)
        self.batch = Histogram("relevance_batch_pairs", "Pairs computed together.", buckets=PAIRS, registry=book)
        self.queued = Gauge("relevance_queued_pairs", "Pairs that wait to be computed.", registry=book)
        self.ready = Gauge("relevance_ready", "Whether the server takes requests, 1 or 0.", registry=book)
        self.model = Info("relevance_model", "What is served.", registry=book)
