# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The network itself as a finder: where on the image would it call a stamp that of a cluster?
"""

import numpy as np
from astropy.table import QTable
from scipy.spatial import cKDTree

from clustercnn.estimate import FLAGS

__all__ = ["NetworkFinder"]

STEP = 4  # pixels between the first looks
NEAR = 1.5  # pixels around a place whose answers count for its score
APART = 4.0  # pixels: of two maxima nearer than this the lower one goes
DIGITS = 4  # of p_cluster that count: the others depend on the batch


class NetworkFinder:
    """
    Find clusters with a network, for `make_catalog` or alone.

    The network looks at every fourth pixel, along x and y, and around each place where ``p_cluster`` reaches ``promising`` at every
    pixel. A place scores the sum of ``p_cluster`` at the pixels within 1.5 of it, which is highest in the middle of those that
    the network takes for the centre; of places above ``threshold`` those with the highest score within 4 pixels stay
    (non-maximum suppression).

    Parameters
    ----------
    net : `~clustercnn.network.ClusterNet`
        Anything with ``predict(images, positions, ...)`` and ``contract``.
    threshold : float
        Least ``p_cluster``. It is stated at even odds: many a place of a crowded disc reaches 0.5.
    promising : float
        ``p_cluster`` from which on a place is looked at closely. The first look may be up to 2.8 pixels beside a cluster, where
        ``p_cluster`` is lower than at its centre.
    **keywords
        Of ``net.predict``, such as ``device`` and ``instrument``.

    Notes
    -----
    There are 62,500 first looks per million pixels, and in a crowded disc twice as many at what is promising: three minutes on two cores.
    `find_clusters` shows the network far fewer. The looks share nothing but the pixels: the
    network normalises each stamp by itself in every layer, so that a trunk that runs over the whole image once would be another
    network (``benchmarks/shared_trunk.py``).

    Examples
    --------
    >>> from clustercnn import ClusterNet
    >>> from clustercnn.survey import NetworkFinder, make_catalog
    >>> net = ClusterNet.from_pretrained("m83")  # doctest: +SKIP
    >>> catalog = make_catalog(images, net, finder=NetworkFinder(net, threshold=0.9))  # doctest: +SKIP
    """

    def __init__(self, net, threshold=0.9, promising=0.2, **keywords):
        if not 0 < promising <= threshold <= 1:
            raise ValueError(f"threshold and promising must be 0 < promising <= threshold <= 1, not {threshold} and {promising}")
        self.net = net
        self.threshold = threshold
        self.promising = promising
        self.keywords = keywords

    def __repr__(self):
        keywords = "".join(f", {name}={value!r}" for name, value in self.keywords.items())
        return f"NetworkFinder({self.net!r}, threshold={self.threshold:g}, promising={self.promising:g}{keywords})"

    def __call__(self, images):
        """
        The clusters in images.

        Parameters
        ----------
        images : `~clustercnn.images.MultiBandImage`
            With the bands of the network.

        Returns
        -------
        candidates : `~astropy.table.QTable`
            ``x_centroid`` and ``y_centroid``, whole pixels or halves between them, and ``p_cluster`` there, in the order of rows and
            columns.
        """
        # A stamp of an even number of pixels has its centre on a corner of four, one of an odd number on a pixel.
        first = (1 - self.net.contract["stamp_shape"][1] % 2) / 2, (1 - self.net.contract["stamp_shape"][0] % 2) / 2
        ny, nx = images.shape
        columns, rows = np.meshgrid(np.arange(STEP // 2, nx, STEP), np.arange(STEP // 2, ny, STEP))
        coarse = np.stack([columns.ravel(), rows.ravel()], axis=1)
        coarse = coarse[self._p_cluster(images, coarse + first) >= self.promising]
        dy, dx = np.indices((STEP, STEP)).reshape(2, -1) - STEP // 2
        fine = (coarse[:, None] + np.stack([dx, dy], axis=1)).reshape(-1, 2)
        fine = fine[(fine < [nx, ny]).all(axis=1)]
        p_cluster = self._p_cluster(images, fine + first)
        fine, p_cluster = fine[p_cluster >= self.promising], p_cluster[p_cluster >= self.promising]
        highest = _highest(fine, p_cluster, self.threshold)
        highest = highest[np.lexsort(fine[highest].T)]
        x, y = (fine[highest] + first).astype(float).T
        return QTable({"x_centroid": x, "y_centroid": y, "p_cluster": p_cluster[highest]})

    def _p_cluster(self, images, xy):
        if not len(xy):
            return np.empty(0)
        estimate = self.net.predict(images, xy, draws=1, nan="mask", **self.keywords)
        # where there is no answer p_cluster is 0.5, and dark corners of a mosaic would be looked at pixel by pixel
        return np.where(estimate.flags & FLAGS["no answer"], 0.0, np.round(estimate.p_cluster, DIGITS))


def _highest(places, p_cluster, threshold):
    """Indices of the places that no other one within reach outdoes."""
    if not len(places):
        return np.empty(0, dtype=int)
    tree = cKDTree(places)
    score = np.array([p_cluster[near].sum() for near in tree.query_ball_point(places, NEAR, return_sorted=True)])
    order = np.lexsort((places[:, 0], places[:, 1], -score.round(DIGITS)))
    order = order[p_cluster[order] >= threshold]
    free = np.ones(len(places), dtype=bool)
    kept = []
    for i in order:
        if free[i]:
            kept.append(i)
            free[tree.query_ball_point(places[i], APART)] = False
    return np.array(kept, dtype=int)
