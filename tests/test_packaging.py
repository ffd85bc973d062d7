"""What the built packages hold: the library and its fake server, not the tests."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_wheel(built: Path) -> None:
    """A user gets what can be imported, the type marker and the licence, and nothing else."""
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"harness_async/py.typed", "harness_async/testing/server.py", "harness_async/cli/__init__.py"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"harness_async"}
    assert not [name for name in names if "test_" in name]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_sdist(built: Path) -> None:
    """The source package has the tests and what they read."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "tests/test_packaging.py"} <= names
