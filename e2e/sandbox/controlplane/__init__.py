"""A real Kubernetes control plane for tests and for the sandbox."""

from sandbox.controlplane.plane import ControlPlane, NotReadyError

__all__ = ["ControlPlane", "NotReadyError"]
