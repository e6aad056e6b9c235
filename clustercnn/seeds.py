# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The seed behind what a user may give as ``rng``."""

import numpy as np

__all__ = ["seed_sequence"]


def seed_sequence(rng):
    """
    The seed that a source of randomness stands for.

    Parameters
    ----------
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        A generator gives the seed by its next number.

    Returns
    -------
    seed : `~numpy.random.SeedSequence`

    Examples
    --------
    >>> from clustercnn.seeds import seed_sequence
    >>> seed_sequence(7).entropy
    7
    """
    if isinstance(rng, np.random.SeedSequence):
        return rng
    return np.random.SeedSequence(int(rng.integers(2**63)) if isinstance(rng, np.random.Generator) else rng)
