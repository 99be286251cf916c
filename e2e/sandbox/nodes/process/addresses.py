"""Gives each pod and node a loopback address of its own.

Invariant: pure; the same text always gets the same address, so a pod keeps its own over a restart.
Linux binds all of 127.0.0.0/8 without any set-up.
"""

import hashlib
import ipaddress
from typing import Final

NODES: Final = ipaddress.IPv4Network("127.64.0.0/10")
PODS: Final = ipaddress.IPv4Network("127.128.0.0/9")


def address_in(network: ipaddress.IPv4Network, text: str) -> str:
    """Returns the address of whatever `text` names (8 million pods share theirs by chance)."""
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    # The first and the last address of the network are nobody's.
    return str(network[1 + digest % (network.num_addresses - 2)])
