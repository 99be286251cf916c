"""What the program measures of its talk with Azure."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

REQUESTS: Final = Counter(
    "gpu_provisioner_arm_requests_total",
    "Requests to Azure Resource Manager, by operation and by error code (OK when it succeeded).",
    ("operation", "code"),
)
SECONDS: Final = Histogram(
    "gpu_provisioner_arm_request_seconds",
    "How long requests to Azure Resource Manager took.",
    ("operation",),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
TOKENS: Final = Gauge(
    "gpu_provisioner_arm_tokens",
    "Requests that may be sent before AKS would throttle, as counted here.",
    ("bucket",),
)
POOLS: Final = Gauge(
    "gpu_provisioner_agent_pools",
    "Agent pools of the cluster, all owners; AKS allows 100.",
)
