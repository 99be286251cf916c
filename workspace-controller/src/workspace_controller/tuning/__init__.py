"""Fine-tuning: a Workspace's run, from its configuration to the result that others may name."""
