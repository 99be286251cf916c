"""The kit's Prometheus metrics, under the names that stock Kubernetes dashboards already read.

Invariant: no label ever holds an object's name, so the number of series stays bounded.
"""

from prometheus_client import Counter, Gauge, Histogram

_QUEUE_BUCKETS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
_PASS_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

RECONCILES = Counter(
    "controller_runtime_reconcile_total",
    "Passes, by result: success, requeue_after, error.",
    ["controller", "result"],
)
RECONCILE_ERRORS = Counter(
    "controller_runtime_reconcile_errors_total", "Passes that failed.", ["controller"]
)
TERMINAL_ERRORS = Counter(
    "controller_runtime_terminal_reconcile_errors_total",
    "Passes that failed in a way only an edit can mend.",
    ["controller"],
)
RECONCILE_PANICS = Counter(
    "controller_runtime_reconcile_panics_total",
    "Passes that failed by a bug of ours.",
    ["controller"],
)
RECONCILE_SECONDS = Histogram(
    "controller_runtime_reconcile_time_seconds",
    "Seconds a pass took.",
    ["controller"],
    buckets=_PASS_BUCKETS,
)
ACTIVE_WORKERS = Gauge(
    "controller_runtime_active_workers", "Workers busy with a pass.", ["controller"]
)
MAX_WORKERS = Gauge(
    "controller_runtime_max_concurrent_reconciles", "Workers of the controller.", ["controller"]
)

QUEUE_DEPTH = Gauge("workqueue_depth", "Keys waiting for a worker.", ["name"])
QUEUE_ADDS = Counter("workqueue_adds_total", "Keys added.", ["name"])
QUEUE_RETRIES = Counter("workqueue_retries_total", "Keys added again after a failure.", ["name"])
QUEUE_SECONDS = Histogram(
    "workqueue_queue_duration_seconds",
    "Seconds a key waited for a worker.",
    ["name"],
    buckets=_QUEUE_BUCKETS,
)
WORK_SECONDS = Histogram(
    "workqueue_work_duration_seconds",
    "Seconds a worker held a key.",
    ["name"],
    buckets=_QUEUE_BUCKETS,
)

LEADER = Gauge("leader_election_master_status", "1 while this process leads.", ["name"])

_REQUESTS = Counter(
    "rest_client_requests_total", "Calls to the API server.", ["code", "method", "host"]
)
_REQUEST_SECONDS = Histogram(
    "rest_client_request_duration_seconds",
    "Seconds until the API server began its answer.",
    ["verb", "host"],
)
LISTS = Counter(
    "controlkit_reflector_lists_total", "Full lists taken, first or again.", ["kind", "turn"]
)
EVENTS_DROPPED = Counter(
    "controlkit_events_dropped_total",
    "Events that were not written: too many for one object, too many at once, or refused.",
    ["cause"],
)
UNREADABLE = Counter(
    "controlkit_unreadable_objects_total", "Objects that did not fit our view of them.", ["kind"]
)


def observe_request(verb: str, code: str, host: str, seconds: float) -> None:
    """Counts one call to the API server.

    Args:
        verb: HTTP method.
        code: HTTP status, or "<error>" when there was no answer.
        host: host and port of the server.
        seconds: until the answer began.
    """
    _REQUESTS.labels(code, verb, host).inc()
    _REQUEST_SECONDS.labels(verb, host).observe(seconds)
