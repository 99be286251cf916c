"""`python -m workspace_controller`: reads the settings and runs the controller.

Invariant: no logic lives here; a wrong setting ends the process with status 2 before anything runs.
"""

import os
import sys

from controlkit.log import configure
from workspace_controller.settings import BadSettings, load


def main() -> int:
    """Returns the exit status: 0 after a signal, 1 after a crash, 2 for bad settings."""
    try:
        settings = load(sys.argv[1:], os.environ)
    except BadSettings as error:
        print(f"workspace-controller cannot start:\n{error}", file=sys.stderr)
        return 2
    formats = {"auto": None, "json": True, "text": False}
    configure(settings.log_level, json=formats[settings.log_format])
    # Loaded late, so that --help and a wrong setting are answered at once.
    from workspace_controller.assembly import main as run  # noqa: PLC0415

    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
