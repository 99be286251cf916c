"""The inference server: one model behind HTTP."""
