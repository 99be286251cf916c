"""Finds what fell out of the normal course: pools without a claim, claims whose pool is gone."""
