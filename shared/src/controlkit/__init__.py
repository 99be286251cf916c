"""The controller kit: machinery that knows nothing of GPUs."""
