"""Turns Workspaces into GPU claims and, when nodes are ready, into served models."""
