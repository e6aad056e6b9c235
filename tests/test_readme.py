# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The README holds what it promises: two set-up commands, and a script that runs on FITS images.
"""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from clustercnn import SyntheticCluster
from clustercnn.instruments import Instrument
from clustercnn.simulation import GalaxyDisc

README = (Path(__file__).resolve().parents[1] / "README.rst").read_text()


def test_two_commands():
    commands = re.findall(r"^    (python -m pip .*)$", README, flags=re.M)
    assert len(commands) == 2
    assert "[plot]" in commands[0] and "clustercnn quickstart" in commands[0]
    assert "[test]" in commands[1] and commands[1].endswith("python -m pytest")
    assert all("-c constraints.txt" in command for command in commands)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path, monkeypatch):
    """The working folder of a user: drizzled images as an observatory ships them, one file for each band."""
    m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    disc = GalaxyDisc(m83, 23 * u.mag / u.arcsec**2, distance=4.5 * u.Mpc)
    cluster = SyntheticCluster(mass=1e5 * u.Msun, age=30 * u.Myr, half_light_radius=0.15 * u.arcsec, a_v=0.2 * u.mag,
                               distance=4.5 * u.Mpc, rng=1)
    light = disc.image((128, 128), rng=1)
    images = cluster.observe(m83, shape=(128, 128), background=light, rng=2)
    for band in images.bands:
        header = light.wcs.to_header()
        header["BUNIT"] = "ELECTRONS/S"
        data = images.to_array()[images.bands.index(band)]
        science = fits.ImageHDU(data.astype(">f4"), header, name="SCI")
        weight = fits.ImageHDU(np.ones_like(data), header, name="WHT")
        fits.HDUList([fits.PrimaryHDU(), science, weight]).writeto(tmp_path / f"galaxy_{band.lower()}_drz.fits")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_script(folder, capsys):
    script = textwrap.dedent(README.partition(".. code-block:: python\n")[2].partition("\nThe pretrained")[0])
    assert 12 <= len(script.strip().splitlines()) <= 18
    exec(script, {})
    catalog = QTable.read(folder / "catalog.ecsv")
    nearest = catalog[np.argmin(np.hypot(catalog["x_centroid"] - 63.5, catalog["y_centroid"] - 63.5))]
    assert nearest["p_cluster"] > 0.9
    assert 10 * u.Myr < nearest["age"] < 100 * u.Myr
    assert (folder / "posterior.png").stat().st_size > 10_000
