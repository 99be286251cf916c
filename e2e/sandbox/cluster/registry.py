"""Starts the registry that fine-tuned adapters are pushed to and pulled from: Debian's, with a login.

It speaks plain HTTP at this host's own address, so the workspace chart is told of it.
"""

import json

from sandbox.cluster.ground import Ground
from sandbox.processes import clean_environment

USER = "sandbox"
PASSWORD = "sandbox"  # noqa: S105  (the registry lives as long as its sandbox)
_HTPASSWD = f"{USER}:$2b$05$sandboxsandboxsandbox.RDWheY3b9y3lU3BEXqW98wWVDKSzaLy\n"


async def start(ground: Ground, *, host: str, port: int) -> str:
    """Starts it, waits until it answers, and returns its host:port."""
    folder = ground.folder / "data" / "registry"
    folder.mkdir(parents=True)
    (folder / "htpasswd").write_text(_HTPASSWD)
    address = f"{host}:{port}"
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": address, "secret": "of one process alone"},
        "auth": {"htpasswd": {"realm": "sandbox", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    command = ("docker-registry", "serve", str(folder / "config.json"))
    process = ground.start("registry", command, clean_environment())
    url = f"http://{USER}:{PASSWORD}@{address}"
    await ground.answers(process, f"{url}/v2/")
    ground.state.endpoints["registry"] = url
    return address
