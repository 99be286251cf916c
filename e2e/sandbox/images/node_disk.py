"""Makes the disk that every VM boots from: a containerd that already holds our images.

As a cloud's node image spares each VM the pulls, this spares each VM minutes of copying: a
VM's own disk is a tree of hard links to this one, made in a second.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sandbox.images.commands import CONTAINED, Say, run

# $1: containerd's folder; the rest: archives. /run is hidden so that no other containerd is met.
_IMPORT = """
set -eu
folder=$1; shift
mount -t tmpfs run /run
containerd --root "$folder" --state /run/containerd --address /run/containerd.sock --log-level warn &
server=$!
tries=0
until ctr --address /run/containerd.sock version >/dev/null 2>&1; do
  tries=$((tries + 1)); [ $tries -lt 100 ] || { echo "containerd does not answer"; exit 1; }
  sleep 0.1
done
for archive in "$@"; do ctr --address /run/containerd.sock --namespace k8s.io images import "$archive"; done
kill $server; wait $server
"""


async def make(folder: Path, archives: Sequence[Path], *, log: Path, say: Say) -> None:
    """Fills `folder` (new, its parent exists) with a containerd that holds the archives' images."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    script = [*CONTAINED, "sh", "-c", _IMPORT, "import", str(unfinished / "containerd")]
    await run([*script, *map(str, archives)], log=log, say=say, label="node disk")
    unfinished.rename(folder)


def clone(disk: Path, target: Path) -> None:
    """Makes `target` (new, its parent exists) a VM's own copy of the disk.

    Layers and blobs are never written to again and may be shared; databases may not.
    """
    same_device = disk.stat().st_dev == target.parent.stat().st_dev
    links = ["--link"] if same_device else []
    subprocess.run(["cp", "--archive", *links, str(disk), str(target)], check=True)
    for database in disk.glob("containerd/*/*.db"):
        own = target / database.relative_to(disk)
        own.unlink()
        shutil.copyfile(database, own)
        own.chmod(0o600)
