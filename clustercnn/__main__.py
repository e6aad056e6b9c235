# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``python -m clustercnn`` is the command ``clustercnn``."""

import sys

from clustercnn.cli import main

__all__ = []

if __name__ == "__main__":
    sys.exit(main())
