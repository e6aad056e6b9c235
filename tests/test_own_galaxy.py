# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The tutorial docs/own_galaxy.rst goes through from end to end, on small mosaics and with few mocks.
"""

import re
import textwrap
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import QTable
from hst_mosaics import M83, write_mosaic

from clustercnn import ClusterNet

PAGE = Path(__file__).parents[1] / "docs" / "own_galaxy.rst"
SMALLER = {"samples=300_000": "samples=128, validation_samples=64, device='cpu', progress=False", "n=200": "n=4, n_per_image=4, progress=False",
           "positive_fraction=0.5))": "positive_fraction=0.5), samples=100, device='cpu', progress=False)"}


def test_tutorial(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:140, :150]
    kernel = np.exp(-((x[:41, :41] - 20) ** 2 + (y[:41, :41] - 20) ** 2) / (2 * 4**2))
    for band in M83.bands:
        star = np.exp(-((x - 70.3) ** 2 + (y - 60.2) ** 2) / 4)
        write_mosaic(tmp_path / f"{band.lower()}_drz.fits", band, rng.normal(0.01, 0.01, x.shape) + 20 * star, exposure=2400.0)
        fits.writeto(tmp_path / f"psf_{band}.fits", kernel)
    code = "\n".join(textwrap.dedent(block) for block in re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE.read_text()))
    for large, small in SMALLER.items():
        assert code.count(large) == 1
        code = code.replace(large, small)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)

    contract = ClusterNet.load("mine.safetensors").contract
    assert contract["distance_mpc"] == 7.2 and contract["exposure"] == {"F336W": 2400, "F438W": 2400, "F814W": 1200}
    assert contract["background"] == "MosaicBackground"
    # a Gaussian of one pixel: 1 - exp(-r^2 / 2)
    np.testing.assert_allclose(list(contract["light_within_pixels"]["F438W"].values()), [0.393, 0.865, 1.0], atol=0.02)
    assert len(names["bright"]) == 1 and len(names["truth"]) == 4
    assert names["estimate"].age.shape == (4,)
    assert {"age", "p_cluster"} <= set(QTable.read("catalog.ecsv").colnames)
    assert "fraction" in capsys.readouterr().out
