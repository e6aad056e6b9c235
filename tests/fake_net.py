# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
A network that needs no training, for the tests of catalogues: its posterior of a source is the source's position.
"""

import os
import signal
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from clustercnn.estimate import ClusterEstimate
from clustercnn.parameters import ParameterSpace
from clustercnn.survey import find_clusters

BANDS = ("F336W", "F438W", "F814W")
SHAPE = (300, 420)


class Net:
    """Age and A_V say where a source is, to a random hundredth; the draws are those of ``rng``, source by source."""

    space = ParameterSpace.paper()
    contract = {"stamp_shape": [64, 64], "pixel_scale": 0.04, "zero_points": {"F438W": 25.0, "F814W": 24.0}}
    training = {"samples": 1}

    def predict(self, images, positions, draws=200, batch_size=256, device="auto", rng=0, nan="raise", **keywords):
        xy = images.pixel_positions(positions)
        if len(xy):  # else it is asked whether it would
            call(self)
        normals = np.random.default_rng(rng).standard_normal((len(xy), draws, 5))
        unit = np.concatenate([xy / images.shape[::-1], np.full_like(xy, 0.5)], axis=1)
        return ClusterEstimate(self.space.from_unit(np.clip(unit[:, None] + 0.003 * normals[..., :4], 0, 1)), self.space,
                               p_cluster=np.full(len(xy), 0.9), visibility=10 + normals[..., 4])

    def __repr__(self):
        return "<Net>"


def finder(images):
    """`find_clusters` that counts its calls."""
    call(finder)
    return find_clusters(images, threshold=5)


def call(thing):
    """Note a call in the file that CALLS names; as many of ``thing`` as KILL says, as in ``finder 3``, kill the process."""
    if "CALLS" not in os.environ:
        return
    name = getattr(thing, "__name__", "net")
    path = Path(os.environ["CALLS"])
    with path.open("a") as file:
        file.write(f"{name}\n")
    if os.environ.get("KILL") == f"{name} {path.read_text().split().count(name)}":
        os.kill(os.getpid(), signal.SIGKILL)


def wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (204.25, -29.87), (100, 100), (-0.04 / 3600, 0.04 / 3600)
    return wcs


def sources_and_pixels():
    """Positions of 12 extended sources, and noisy images of them on a gradient, shape (band, ny, nx)."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    # four columns and three rows of sources, a few pixels off a grid that lies across the borders of tiles
    positions = np.stack(np.meshgrid(np.arange(64, 420, 96), np.arange(50, 300, 100)), axis=-1).reshape(-1, 2)
    positions = positions + rng.uniform(-3, 3, positions.shape)
    light = np.zeros(SHAPE)
    for (x0, y0), width in zip(positions, np.geomspace(1, 5, len(positions))):
        light += 3 / width * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / width**2)
    planes = [rng.normal(0.1, 0.05, SHAPE) + 0.002 * x + weight * light for weight in (0.5, 1, 0.8)]
    return positions, np.array(planes, dtype=np.float32)


def write_fits(folder, pixels):
    """Band -> path of one file for each band."""
    paths = {}
    for band, plane in zip(BANDS, pixels):
        paths[band] = folder / f"{band}.fits"
        header = wcs().to_header()
        header["BUNIT"] = "electron/s"
        fits.writeto(paths[band], plane, header)
    return paths
