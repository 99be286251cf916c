"""Images of our parts, built from their Dockerfiles without a container engine or a registry."""

from sandbox.images.commands import ImageError
from sandbox.images.prepare import NodeDisk, build_all, prepare, to_stderr

__all__ = ["ImageError", "NodeDisk", "build_all", "prepare", "to_stderr"]
