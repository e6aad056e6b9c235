# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What shines: initial mass functions, isochrones, photometry, extinction and spectra."""

from . import isochrone_files
from .extinction import *
from .imf import *
from .isochrones import *
from .nebular import *  # noqa: F403
from .photometry import *
from .spectra import *
