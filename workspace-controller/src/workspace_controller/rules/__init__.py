"""What a Workspace must say before anything is stored or bought, as pure functions."""
