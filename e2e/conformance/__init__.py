"""Says which of the behaviours that a Workspace counts on a provisioner keeps."""
