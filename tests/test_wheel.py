# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The package as it is shipped: sdist and wheel build, and an installed wheel finds its tables and weights.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What an installation must be able to do far from the source tree; prints where it ran.
SCRIPT = """
import clustercnn
from astropy import units as u
from clustercnn.instruments import Instrument
from clustercnn.psf import builtin_psf
from clustercnn.stellar import IsochroneGrid

IsochroneGrid.default().isochrone(20 * u.Myr, passbands=("F336W",))
builtin_psf(Instrument.from_name("HST/WFC3/UVIS/M83"))
for name in ("m83", "m83-renormalized", "m83-paper"):
    clustercnn.ClusterNet.from_pretrained(name)
print(clustercnn.__file__)
"""


def run(*command, **keywords):
    """Run a command and show what it said if it failed."""
    done = subprocess.run(command, capture_output=True, text=True, **keywords)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with an sdist, and the wheel built from it, without a network."""
    tmp = tmp_path_factory.mktemp("build")
    source = tmp / "source"
    # a copy, since a build leaves its droppings in the source tree
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.rst", "CHANGES.rst", "CITATION.cff"):
        shutil.copy(ROOT / name, source)
    for name in ("clustercnn", "licenses", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp / "dist", source)
    return tmp / "dist"


@pytest.fixture(scope="module")
def site(dist, tmp_path_factory):
    """A folder with the wheel installed in it."""
    site = tmp_path_factory.mktemp("site")
    wheel, = dist.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel)
    return site


def test_sdist_is_complete(dist):
    archive, = dist.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"setup.cfg", "CHANGES.rst", "licenses/LICENSE.rst", "tests/conftest.py"} <= names


def test_installed_wheel_finds_its_data(site, tmp_path):
    output = run(sys.executable, "-c", SCRIPT, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)})
    assert Path(output.strip()).is_relative_to(site)


def test_installed_command(site, tmp_path):
    output = run(site / "bin" / "clustercnn", "--version", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)})
    assert output.startswith("clustercnn 0.1")


def test_wheel_is_small(dist):
    """As three sets of weights may be, each of them below 20 MiB."""
    wheel, = dist.glob("*.whl")
    assert wheel.stat().st_size < 35e6
    with zipfile.ZipFile(wheel) as archive:
        weights = [entry for entry in archive.infolist() if entry.filename.endswith(".safetensors")]
    assert len(weights) == 3 and max(entry.file_size for entry in weights) < 20 * 2**20
