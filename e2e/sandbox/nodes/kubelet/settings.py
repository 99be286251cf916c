"""What every VM of one sandbox has in common, and where level 2 keeps its files.

Written once by `Level2`, read by the driver in the emulator's process: the folder alone tells all.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.nodes.driver import NodeBootError


class NotPreparedError(NodeBootError):
    """The sandbox has no level 2: nothing was prepared for nodes to boot from."""


@dataclass(frozen=True)
class Paths:
    """The files of level 2 in a sandbox's folder."""

    sandbox: Path

    @property
    def folder(self) -> Path:
        """All that level 2 keeps."""
        return self.sandbox / "level2"

    @property
    def nodes(self) -> Path:
        """A folder for each VM."""
        return self.folder / "nodes"

    @property
    def subnets(self) -> Path:
        """A link for each subnet in use, from its number to its VM's name."""
        return self.folder / "subnets"

    @property
    def forwarding_note(self) -> Path:
        """How the host's forwarding was before we changed it."""
        return self.folder / "ip_forward.before"

    @property
    def kube_proxy(self) -> Path:
        """The configuration file of kube-proxy."""
        return self.folder / "kube-proxy.yaml"

    @property
    def settings(self) -> Path:
        """The file of `Settings`."""
        return self.folder / "settings.json"

    def log(self, name: str) -> Path:
        """The log file of a VM or program."""
        return self.sandbox / "log" / f"{name}.log"


@dataclass(frozen=True)
class Settings:
    """What all VMs share: the API server's URL, the host's address, and host folders."""

    url: str
    address: str
    bin: str
    disk: str
    environment: str

    def save(self, paths: Paths) -> None:
        """Writes the file that `load` reads."""
        paths.folder.mkdir(parents=True, exist_ok=True)
        paths.settings.write_text(json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, paths: Paths) -> "Settings":
        """Reads what `save` wrote.

        Raises:
            NotPreparedError: there is no such file.
        """
        try:
            return cls(**json.loads(paths.settings.read_text()))
        except FileNotFoundError as error:
            raise NotPreparedError(
                f"{paths.settings} does not exist: real nodes need a sandbox of level 2;"
                " run `make sandbox-up LEVEL=2`"
            ) from error
