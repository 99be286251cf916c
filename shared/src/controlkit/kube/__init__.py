"""Talks to the Kubernetes API server."""
