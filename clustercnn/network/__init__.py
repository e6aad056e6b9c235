# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""From pixels to posteriors: encoders, heads, training and the model file, put together in `ClusterNet`."""

from .augmentation import *  # noqa: F403
from .calibrating import *  # noqa: F403
from .domain import *  # noqa: F403
from .encoders import *  # noqa: F403
from .heads import *  # noqa: F403
from .modelfile import *  # noqa: F403
from .module import *  # noqa: F403
from .net import *  # noqa: F403
from .training import *  # noqa: F403
