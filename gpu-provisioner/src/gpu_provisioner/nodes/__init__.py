"""What a claim means for its node: labels and taints, readiness, and leaving it without harm."""
