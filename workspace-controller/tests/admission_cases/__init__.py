"""Workspaces that keep and that break the rules of admission, for every test that needs some."""

from admission_cases.broken import BROKEN, Case
from admission_cases.builders import TODAY, config, knowledge, manifest, tuning, workspace
from admission_cases.sound import SOUND
from admission_cases.updates import UPDATES
from admission_cases.warned import WARNED, WARNED_OF_OWN_NODES

__all__ = [
    "BROKEN",
    "SOUND",
    "TODAY",
    "UPDATES",
    "WARNED",
    "WARNED_OF_OWN_NODES",
    "Case",
    "config",
    "knowledge",
    "manifest",
    "tuning",
    "workspace",
]
