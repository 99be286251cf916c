"""Pure builders of what the controller writes to the cluster, held by golden files."""
