"""`python -m gpu_provisioner`: reads the settings and runs the service.

Invariant: no logic lives here; settings that make no sense end the process with status 2 before
anything runs.
"""

import argparse
import sys

from controlkit.errors import ControlError
from controlkit.log import configure
from gpu_provisioner.settings import SettingsError, explain, load

_ABOUT = """\
Makes an AKS agent pool with one GPU node for every Machine (karpenter.sh/v1alpha5) and NodeClaim
(karpenter.sh/v1) that carries the label kaito.sh/workspace or kaito.sh/ragengine, tells on the
claim how far it is, and removes node and pool when the claim is deleted.

Everything is set by environment variables, as the Helm chart does:
"""


def main() -> int:
    """Returns the exit status: 0 after a signal, 1 after a crash, 2 for bad settings."""
    parser = argparse.ArgumentParser(
        prog="python -m gpu_provisioner",
        description=_ABOUT,
        epilog=f"{explain()}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        settings = load()
    except SettingsError as error:
        print(f"gpu-provisioner cannot start. {error}", file=sys.stderr)
        return 2
    configure(settings.log_level, json=settings.log_format == "json")
    # Loaded late, so that --help and wrong settings are answered at once.
    from gpu_provisioner.service import main as run  # noqa: PLC0415

    try:
        return run(settings)
    except ControlError as error:
        print(f"gpu-provisioner cannot start. {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
