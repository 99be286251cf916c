"""Pools and the places in them: which claims share one, when it is made, grown, cut and removed."""
