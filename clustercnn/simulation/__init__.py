# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Simulation: from parameters to pixels, one cluster or an endless stream of them."""

from .background import BackgroundFields, GalaxyDisc
from .cluster import SyntheticCluster
from .injection import ClusterInjector, InjectionResult, recovered_fraction
from .negatives import NEGATIVES
from .noise import Detector
from .render import Renderer
from .stream import MockStream
from .visibility import Visibility

__all__ = [
    "NEGATIVES",
    "BackgroundFields",
    "ClusterInjector",
    "Detector",
    "GalaxyDisc",
    "InjectionResult",
    "MockStream",
    "Renderer",
    "SyntheticCluster",
    "Visibility",
    "recovered_fraction",
]
