"""One Workspace's whole life on the sandbox, followed live: `python -m sandbox demo`."""
