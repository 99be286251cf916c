"""The last word of a container: what Kubernetes shows of a pod that has ended.

Writing it never fails a program: where there is no such file, there is no pod.
"""

from pathlib import Path

import structlog

TERMINATION_LOG = Path("/dev/termination-log")
TERMINATION_BYTES = 4096  # Kubernetes keeps no more

log = structlog.get_logger(__name__)


def leave_word(file: Path, reason: str) -> None:
    """Write the reason where Kubernetes shows it; there is no such file outside a pod."""
    if file.exists():
        try:
            file.write_bytes(reason.encode()[:TERMINATION_BYTES])
        except OSError as error:
            log.warning("the termination message cannot be written", error=str(error))
