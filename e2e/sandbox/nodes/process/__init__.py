"""A small kubelet that runs the containers of our own images as local processes."""

from sandbox.nodes.process.driver import ProcessDriver, connected

__all__ = ["ProcessDriver", "connected"]
