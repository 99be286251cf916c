"""Workspaces that nobody would write, and the verdict on them without a server."""

from admission_fuzz.offline import allowed
from admission_fuzz.strategies import edits, workspaces

__all__ = ["allowed", "edits", "workspaces"]
