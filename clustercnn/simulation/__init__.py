# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Simulation: from parameters to pixels, one cluster or an endless stream of them."""

from .background import BackgroundFields, GalaxyDisc
from .cluster import SyntheticCluster
from .completeness import recovered_fraction
from .injection import ClusterInjector, InjectionResult
from .mosaic_background import MosaicBackground
from .negatives import NEGATIVE_KINDS, NEGATIVES
from .noise import Detector
from .psf_variation import PSFVariation
from .render import Renderer
from .shards import MockShards, write_shards
from .stream import MockStream
from .visibility import Visibility

__all__ = [
    "NEGATIVES",
    "NEGATIVE_KINDS",
    "BackgroundFields",
    "ClusterInjector",
    "Detector",
    "GalaxyDisc",
    "InjectionResult",
    "MockShards",
    "MockStream",
    "MosaicBackground",
    "PSFVariation",
    "Renderer",
    "SyntheticCluster",
    "Visibility",
    "recovered_fraction",
    "write_shards",
]
