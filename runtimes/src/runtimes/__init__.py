"""What runs in model pods."""
