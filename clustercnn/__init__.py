# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Ages, masses, sizes and extinctions of star clusters from the pixels of multi-band images.

The classes below are loaded when they are first asked for, so that importing the package stays fast:
torch, photutils, specutils and matplotlib wait for the call that needs them.
"""

from importlib import import_module

__all__ = ["ClusterEstimate", "ClusterInjector", "ClusterNet", "MultiBandImage", "SyntheticCluster", "__version__"]

__version__ = "0.1.dev0"

_HOME = {
    "ClusterEstimate": "clustercnn.estimate",
    "ClusterInjector": "clustercnn.simulation.injection",
    "ClusterNet": "clustercnn.network.net",
    "MultiBandImage": "clustercnn.images",
    "SyntheticCluster": "clustercnn.simulation.cluster",
}


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
