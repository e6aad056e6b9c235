# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Streams of small stamps through a small PSF that share their tables of stars: quick to make, many for one test."""

from functools import cache
from unittest.mock import patch

import numpy as np

from clustercnn.instruments import Instrument
from clustercnn.parameters import ParameterSpace
from clustercnn.psf import as_psf
from clustercnn.simulation import BackgroundFields, MockStream, scenes

M83 = Instrument.from_name("HST/WFC3/UVIS/M83")
SPACE = ParameterSpace.paper()
WAVE = np.exp(-0.5 * (np.arange(-20, 21) / 4) ** 2)
PSF = dict.fromkeys(M83.bands, as_psf(np.outer(WAVE, WAVE)))
FIELD = np.random.default_rng(0).gamma(2.0, 0.01, (3, 40, 50))

_StarTables = cache(scenes.StarTables)


def make_stream(rng=1, space=SPACE, instrument=M83, **settings):
    """A stream of 24 x 24 pixel stamps before a noisy field, unless told otherwise."""
    settings = {"psf": PSF, "background": BackgroundFields([FIELD]), "shape": (24, 24), **settings}
    with patch.object(scenes, "StarTables", _StarTables):
        return MockStream(space, instrument, rng=rng, **settings)


def dark(*shape):
    """No background at all."""
    return BackgroundFields([np.zeros((3, *shape))])
