"""Workspaces that nobody would write, and the verdict on them without a server."""

from admission_fuzz.offline import KEPT_BY_SERVER, broken
from admission_fuzz.strategies import edits, workspaces

__all__ = ["KEPT_BY_SERVER", "broken", "edits", "workspaces"]
