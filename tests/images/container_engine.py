"""podman and buildah in a folder of their own, without privileges beyond root in a container and without an image registry.

What this needs on Debian: `apt-get install buildah podman runc debootstrap`. `RELEVANCE_PYTHON_IMAGE` names a base, with digest, where a
registry is reachable; elsewhere debootstrap makes one from the distribution's packages. pip inside the build sees what pip here sees:
its configuration as a build secret, and the folders that it names.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = ("podman", "buildah", "runc", "debootstrap")
WHERE_PACKAGES_ARE = ("index-url", "extra-index-url", "find-links", "cert", "proxy", "trusted-host")
KEPT = "RELEVANCE_IMAGES_FOLDER"  # keeps layers between runs of the tests; removed with podman's `system reset`


class Engine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "storage.conf").write_text(f'[storage]\ndriver="overlay"\ngraphroot="{folder}/graph"\nrunroot="{folder}/runroot"\n')
        # hard limits cannot be raised in a container, and crun refuses mixed cgroups
        (folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits=["nofile=4096:4096","nproc=4096:4096"]\n'
            '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
        )
        conf = {"CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf", "CONTAINERS_CONF": f"{folder}/containers.conf"}
        self.environment = {**os.environ, **conf}

    def call(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=ROOT, check=False)
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def base(self) -> str:
        """An image with Python 3.11, by digest."""
        if given := os.environ.get("RELEVANCE_PYTHON_IMAGE"):
            return given
        if self.call("podman", "image", "exists", "localhost/python-minimal:1", check=False).returncode:
            root = self.folder / "rootfs"
            included = "--include=python3,python3-venv,ca-certificates"
            self.call("debootstrap", "--variant=minbase", included, "bookworm", str(root), _mirror())
            packed = f"tar -C {root} -c . | podman import -q - localhost/python-minimal:1"
            self.call("sh", "-c", packed)
            shutil.rmtree(root)
        return f"localhost/python-minimal@{self.inspect('localhost/python-minimal:1', '{{.Digest}}')}"

    def build(self, kind: str, *options: str) -> str:
        """Build images/<kind>; returns its reference by digest."""
        tag = f"localhost/relevance-{kind}:test"
        base = ("--build-arg", f"PYTHON_IMAGE={self.base()}", "--build-arg", "REVISION=0123abc", "--build-arg", "VERSION=test")
        command = [
            "buildah",
            "bud",
            "--isolation",
            "chroot",
            "--format",
            "docker",
            "--layers",
            "-f",
            f"images/{kind}/Containerfile",
            "-t",
            tag,
        ]
        self.call(*command, *base, *_pip_options(self.folder), *options, ".")
        return f"localhost/relevance-{kind}@{self.inspect(tag, '{{.Digest}}')}"

    def inspect(self, image: str, what: str) -> str:
        return self.call("podman", "image", "inspect", image, "--format", what).stdout.strip()

    def run(self, image: str, *command: str, options: tuple[str, ...] = (), check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a container that reaches no network."""
        return self.call("podman", "run", "--rm", "--network", "none", *options, image, *command, check=check)

    @contextmanager
    def service(self) -> Iterator[str]:
        """podman behind Docker's API; gives DOCKER_HOST."""
        socket = self.folder / "podman.sock"
        with subprocess.Popen(["podman", "system", "service", "--time=0", f"unix://{socket}"], env=self.environment) as process:
            try:
                for _ in range(100):
                    if socket.exists():
                        break
                    time.sleep(0.1)
                yield f"unix://{socket}"
            finally:
                process.terminate()


def _mirror() -> str:
    files = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    text = "\n".join(file.read_text() for file in files if file.exists())
    found = re.search(r"^(?:URIs:|deb)\s+(?:\[.*?\]\s+)?(\S+)", text, flags=re.MULTILINE)
    return found[1] if found else "http://deb.debian.org/debian"


def _pip_options(folder: Path) -> list[str]:
    """pip's configuration here as a secret of the build, and what it points at on this disk as read-only mounts."""
    asked = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    settings = dict(line.removeprefix("global.").split("=", 1) for line in lines if line.startswith("global."))
    values = {name: value.strip("'").replace("\\n", " ") for name, value in settings.items() if name in WHERE_PACKAGES_ARE}
    file = folder / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
    words = [word.removeprefix("file://") for value in values.values() for word in value.split()]
    places = {
        str(Path(word).parent if Path(word).name == "simple" else word) for word in words if word.startswith("/") and Path(word).exists()
    }
    mounts = [option for place in sorted(places) for option in ("-v", f"{place}:{place}:ro")]
    return ["--secret", f"id=pip_conf,src={file}", *mounts]
