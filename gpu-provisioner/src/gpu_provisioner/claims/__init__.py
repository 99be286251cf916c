"""From a claim to an agent pool, its node, and back to nothing: observe, decide, carry out, report."""
