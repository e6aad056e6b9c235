# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Stamps with unknown pixels, as networks take them that know what is missing and networks that do not."""

import numpy as np

from clustercnn.estimate import FLAGS
from clustercnn.images import LARGEST

__all__ = ["filled", "flagged"]

# A stamp with a hole this near its centre, in pixels, has lost the source itself.
CORE = 4


def flagged(pixels, nan, start):
    """Stamps with NaN where unknown, and a flag per stamp; ``start`` is the index of the first, for the message."""
    bad = ~((pixels >= -LARGEST) & (pixels <= LARGEST))
    hit = bad.any(axis=(1, 2, 3))
    if hit.any() and nan == "raise":
        raise ValueError(
            f"{hit.sum()} stamp(s), the first of them number {start + int(hit.argmax())}, hold NaN, masked or missing pixels, or some beyond "
            f'{LARGEST:g}; use nan="mask" to have them as unknown, with a flag'
        )
    pixels[bad] = np.nan
    lost = bad.all(axis=(2, 3))
    flags = FLAGS["masked pixels"] * hit | FLAGS["missing bands"] * lost.any(axis=1) | FLAGS["no answer"] * lost.all(axis=1)
    return pixels, flags


def filled(pixels, nan, start):
    """As `flagged`, but without NaN: for networks that cannot know what is missing."""
    pixels, flags = flagged(pixels, nan, start)
    bad = np.isnan(pixels)
    hit = np.flatnonzero(bad.any(axis=(1, 2, 3)))
    y, x = (np.arange(size) - (size - 1) / 2 for size in pixels.shape[2:])
    core = np.hypot(y[:, None], x) < CORE
    for i in hit:
        if bad[i, :, core].any() or bad[i].all(axis=(1, 2)).any():
            flags[i] |= FLAGS["no answer"]
        for band in np.flatnonzero(bad[i].any(axis=(1, 2))):
            hole = bad[i, band]
            pixels[i, band, hole] = 0.0 if hole.all() else np.median(pixels[i, band, ~hole])
    return pixels, flags
