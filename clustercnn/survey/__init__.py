# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Whole mosaics: candidates, and catalogues of them."""

from .aperture import *
from .detection import *
from .mosaic import *
from .network_finder import *
