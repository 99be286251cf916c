"""Runs the command line of the sandbox: `python -m sandbox --help`."""

import sys

from sandbox.cli import main

sys.exit(main())
