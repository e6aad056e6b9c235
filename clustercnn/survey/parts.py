# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Second peaks: sources of a catalogue that are a part of another one's light.
"""

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["find_parts"]

REACH = 1.5  # half-light radii of the main source, as inferred
LEAST = 2.0  # pixels: what the centre of a source may be wrong by
GENUINE = 0.5  # p_cluster that a main source is above; what the network has no answer for is at 0.5


def find_parts(xy, radius, p_cluster, visibility):
    """
    Which source each one is a part of: non-maximum suppression on the network's answer.

    A bright, lumpy cluster has several peaks, and seen from each of them the network finds it. The network is trained to know whether
    it looks at the centre, so that the peak with the highest ``p_cluster`` is the main one (of equal ones that with the highest
    visibility); those within 1.5 of its half-light radii, or 2 pixels, are parts of it. A source with ``p_cluster`` of 0.5 or below has
    no parts. The answer depends on the sources alone, not on the order in which they stand.

    Parameters
    ----------
    xy : `~numpy.ndarray`
        Positions in pixels, shape (n, 2).
    radius : `~numpy.ndarray`
        Half-light radii in pixels, shape (n,).
    p_cluster, visibility : `~numpy.ndarray`
        As inferred; a visibility of NaN counts as 0.

    Returns
    -------
    main : `~numpy.ndarray`
        Index of the main source, -1 for what is no part of another.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.survey.parts import find_parts
    >>> xy = np.array([(10, 10), (16, 10), (30, 30)])
    >>> find_parts(xy, radius=np.array([5, 5, 5]), p_cluster=np.array([0.99, 0.999, 0.9]), visibility=np.array([50, 40, 9])).tolist()
    [1, -1, -1]
    """
    main = np.full(len(xy), -1)
    if not len(xy):
        return main
    order = np.lexsort((xy[:, 0], xy[:, 1], -np.nan_to_num(visibility), -p_cluster))
    rank = np.empty(len(xy), dtype=int)
    rank[order] = np.arange(len(xy))
    near = cKDTree(xy).query_ball_point(xy, np.maximum(REACH * radius, LEAST))
    for i in order:
        if p_cluster[i] > GENUINE and main[i] < 0:
            parts = [j for j in near[i] if rank[j] > rank[i] and main[j] < 0]
            main[parts] = i
    return main
