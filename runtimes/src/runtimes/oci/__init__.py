"""Images as transport: adapters and datasets, built and unpacked here, moved by skopeo."""
