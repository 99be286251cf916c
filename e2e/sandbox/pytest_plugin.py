"""Offers the sandbox to pytest (fixtures follow)."""
