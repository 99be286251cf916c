"""A real Kubernetes control plane and an emulated AKS on one machine."""
