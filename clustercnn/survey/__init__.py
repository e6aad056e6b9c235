# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Whole mosaics: candidates, and catalogues of them."""

from .detection import *
from .mosaic import *
