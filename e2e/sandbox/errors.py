"""The failures of the sandbox that a person can act on."""


class SandboxError(RuntimeError):
    """Something the sandbox needs is missing or failed; the text says what, and what to do."""
