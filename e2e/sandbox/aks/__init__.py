"""An emulated Azure Kubernetes Service: token endpoint, agent pools, and the rules that hurt."""
