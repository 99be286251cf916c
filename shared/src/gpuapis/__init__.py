"""The API types of GPU Workspaces: what people apply and what the controllers read."""
