"""Drivers that make the nodes of an emulated agent pool."""
