"""The packages beside the core: it works without each of them, and finds those of others."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from subprocess import PIPE

import pytest
from tests.acceptance.command import wait_until
from tests.acceptance.static_tree import asset_of, write_tree
from tests.serving import serving_files

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
NEIGHBOURS = sorted(path.name for path in SOURCE.glob("stacpull_*"))
COMMANDS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
    "stacpull.commands"
]

BUCKETS = {"az:// as SOURCE": ("az://bucket/k", "m"), "s3:// as DEST": ("catalog.json", "s3://bucket")}


class Installation:
    """An environment of its own with a copy of the tree, and with the dependencies of this one."""

    def __init__(self, top: Path, *without: str) -> None:
        venv.create(top / "venv", symlinks=True)
        self._python = top / "venv" / "bin" / "python"
        unfinished = shutil.ignore_patterns("*.pyc.*", *without)
        shutil.copytree(SOURCE, top / "src", ignore=unfinished)
        shutil.copytree(ROOT / "configs", top / "configs")
        self.packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(top / "venv")}))
        # a .pth file in a directory that a .pth file names is not read: so the tree itself is not found
        self.packages.joinpath("found.pth").write_text(f"{top / 'src'}\n{sysconfig.get_path('purelib')}\n")

    def begun(self, *arguments: str | Path) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [self._python, "-m", "stacpull", *map(str, arguments)]
        return subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, env=environ)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        with self.begun(*arguments) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_the_core_works_alone(tmp_path: Path) -> None:
    stacpull = Installation(tmp_path, *NEIGHBOURS)
    write_tree(tmp_path / "tree", 2, 100)
    dest = tmp_path / "m"
    with serving_files(tmp_path / "tree") as url:
        with stacpull.begun("mirror", f"{url}/catalog.json", dest, "--no-progress") as mirror:
            assert wait_until(lambda: any(dest.glob("col0/*/data.bin")))
            mirror.kill()
        resumed = stacpull.run("resume", dest, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout.splitlines()[-1])["assets_done"] == 200
    assert (dest / "col1/col1-99/data.bin").read_bytes() == asset_of("col1-99")
    verified = stacpull.run("verify", dest, "--strict")
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_the_core_works_without_a_neighbour(tmp_path: Path, neighbour: str) -> None:
    stacpull = Installation(tmp_path, neighbour)
    write_tree(tmp_path / "tree", 1, 1)
    mirrored = stacpull.run("mirror", tmp_path / "tree/catalog.json", tmp_path / "m", "--json")
    assert mirrored.returncode == 0, mirrored.stderr
    assert json.loads(mirrored.stdout.splitlines()[-1])["assets_done"] == 1

    if neighbour == "stacpull_raster":
        clipped = stacpull.run("mirror", tmp_path / "tree", tmp_path / "c", "--clip", "1,2,3,4")
        assert clipped.returncode == 2
        assert (
            clipped.stderr == "stacpull: --clip needs the package stacpull_raster, which is not installed.\n"
        )
        assert not (tmp_path / "c").exists()

    if neighbour == "stacpull_export":
        (tmp_path / "items.parquet").touch()
        read = stacpull.run("mirror", tmp_path / "items.parquet", tmp_path / "p")
        assert read.returncode == 2
        assert "needs the package stacpull_export, which is not installed." in read.stderr

    if neighbour == "stacpull_cloud":
        for name, given in BUCKETS.items():
            refused = stacpull.run("mirror", *given)
            assert refused.returncode == 2
            assert f"{name} needs the package stacpull_cloud, which is not installed." in refused.stderr

    listed = stacpull.run("--help").stdout
    for name, target in COMMANDS.items():
        is_absent = target.startswith(f"{neighbour}.")
        assert (f"\n  {name} " in listed) is not is_absent
        if is_absent:
            asked = stacpull.run(name, "--help")
            assert asked.returncode == 2
            assert asked.stderr.splitlines()[-1] == (
                f"stacpull: The command {name!r} needs the package {neighbour}, which is not installed."
            )


HELLO = '''
import click

@click.command("hello")
def hello():
    """Greet the reader."""
    print("hello from elsewhere")
'''


def test_a_package_of_someone_else_adds_a_command(tmp_path: Path) -> None:
    stacpull = Installation(tmp_path)
    (stacpull.packages / "other.py").write_text(HELLO)
    info = stacpull.packages / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stacpull.commands]\nhello = other:hello\n")
    assert stacpull.run("hello").stdout == "hello from elsewhere\n"
    assert "Greet the reader." in stacpull.run("hello", "--help").stdout
    missed = stacpull.run("helo")
    assert (missed.returncode, "No such command 'helo'." in missed.stderr) == (2, True)


def test_help_reads_only_our_own_entry_points() -> None:
    """Reading those of all installed packages takes as long as everything else that `--help` does."""
    code = (
        "import sys; from stacpull.cli.main import execute; execute(['--help']); "
        "sys.exit('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
