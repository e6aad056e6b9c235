# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""From pixels to posteriors: encoders, heads, training and the model file, put together in `ClusterNet`."""

from .augmentation import Augmentation
from .calibrating import calibration_text
from .domain import Domain, kinds_of, look
from .doubt import Doubt
from .encoders import CompactResNet, PhotometryBranch, ResNet50
from .heads import FlowHead, GridHead
from .module import ClusterModule
from .net import ClusterNet
from .training import TrainingHistory

__all__ = [
    "Augmentation",
    "ClusterModule",
    "ClusterNet",
    "CompactResNet",
    "Domain",
    "Doubt",
    "FlowHead",
    "GridHead",
    "PhotometryBranch",
    "ResNet50",
    "TrainingHistory",
    "calibration_text",
    "kinds_of",
    "look",
]
