"""Measurements of the product in the sandbox."""
