"""Turns Karpenter claims into AKS agent pools and reports what became of them."""
