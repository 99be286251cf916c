"""Programs and files of published Go modules, of fixed versions.

Invariant: a module is used only if its content has the checksum that is written down with it.
"""

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sandbox import tools


@dataclass(frozen=True)
class GoModule:
    """A version of a module.

    Attributes:
        path: as it is imported.
        version: as in v1.2.3.
        checksum: as go.sum has it, h1:…=.
    """

    path: str
    version: str
    checksum: str

    def source(self) -> Path:
        """Returns the folder of its files, downloading them once.

        Raises:
            sandbox.tools.ToolsError: there is no Go, no such module, or other content.
        """
        return _download(self)

    def program(self, package: str) -> Path:
        """Returns the program of one of its main packages, building it once.

        Blocks for minutes when it builds, so call it from a thread in asynchronous code.

        Raises:
            sandbox.tools.ToolsError: as `source`, or the build failed; the text shows its log.
        """
        self.source()
        name = package.rpartition("/")[2]
        folder = tools.cache_folder() / f"{self.path.replace('/', '.')}-{self.version}"
        if not (folder / name).exists():
            tools.build_once(folder, (name,), lambda unfinished: self._build(package, unfinished))
        return folder / name

    def _build(self, package: str, folder: Path) -> None:
        target = f"{self.path}/{package}@{self.version}"
        tools.say(f"building {target} with Go, once: 3 to 6 minutes on 2 cores")
        command = [tools.go_program(), "install", "-v", "-trimpath", "-ldflags", "-s -w", target]
        tools.run_go(
            command, folder, folder / "build.log", {"CGO_ENABLED": "0", "GOBIN": str(folder)}
        )


@cache
def _download(module: GoModule) -> Path:
    command = [tools.go_program(), "mod", "download", "-json", f"{module.path}@{module.version}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        answer = {"Error": ended.stderr.strip()}
    if error := answer.get("Error"):
        raise tools.ToolsError(f"`{' '.join(command)}` failed: {error}")
    if answer["Sum"] != module.checksum:
        raise tools.ToolsError(
            f"{module.path}@{module.version} has the checksum {answer['Sum']} instead of"
            f" {module.checksum}: it is not what was published"
        )
    return Path(answer["Dir"])
