# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""PSFs that are sharper or wider than a given one: its transfer function to a power, which may change with the frequency."""

import numpy as np

__all__ = ["FREQUENCIES", "NODES", "OWN_POWER", "hats", "psf_powers", "radial_transfer"]

#: Cycles per pixel at which a power is told, of the wings, the core and its sharpest part; in between it is interpolated.
NODES = (0.05, 0.2, 0.4)
#: In simulations the power of a PSF varies as a whole, and each node by so much of that by itself.
OWN_POWER = 1 / 3
#: Cycles per pixel at which transfer functions are compared.
FREQUENCIES = np.arange(0.025, 0.501, 0.025)
ANGLES = np.pi * np.arange(8) / 8


def hats(frequency):
    """
    What each of the `NODES` counts at frequencies, arrays or tensors of cycles per pixel: a list of as many, whose sum is 1.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.psf_powers import hats
    >>> print(np.round(hats(np.array([0.0, 0.05, 0.1, 0.5])), 2))
    [[1.   1.   0.67 0.  ]
     [0.   0.   0.33 0.  ]
     [0.   0.   0.   1.  ]]
    """
    low, middle, high = NODES
    rise, fall = ((frequency - low) / (middle - low)).clip(0.0, 1.0), ((frequency - middle) / (high - middle)).clip(0.0, 1.0)
    return [1 - rise, rise - fall, fall]


def radial_transfer(psf):
    """
    The amplitude of the transfer function of a PSF, pixel included, at `FREQUENCIES`: its mean over all directions.

    Parameters
    ----------
    psf : `~clustercnn.psf.PSF`

    Returns
    -------
    transfer : `~numpy.ndarray`
        1 at frequency 0.

    Examples
    --------
    >>> from clustercnn.psf import hst_psf
    >>> from clustercnn.psf_powers import radial_transfer
    >>> print(radial_transfer(hst_psf("F438W"))[[1, 7]].round(2))
    [0.78 0.29]
    """
    return np.abs(psf.otf(FREQUENCIES[:, None] * np.sin(ANGLES), FREQUENCIES[:, None] * np.cos(ANGLES))).mean(axis=1)


def psf_powers(psf, transfer):
    """
    To which powers the transfer function of one PSF must be raised to be that of another.

    Parameters
    ----------
    psf : `~clustercnn.psf.PSF`
        The other.
    transfer : array_like
        `radial_transfer` of the one.

    Returns
    -------
    powers : `~numpy.ndarray`
        Natural logarithms of the powers at the `NODES`: 0 for the same PSF, above 0 for a wider one. The best fit to the amplitudes, to first
        order. For Gaussians the power is the ratio of the variances.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.psf import hst_psf
    >>> from clustercnn.psf_powers import psf_powers, radial_transfer
    >>> transfer = radial_transfer(hst_psf("F438W"))
    >>> np.exp(psf_powers(hst_psf("F814W"), transfer)).round(1).tolist()
    [1.2, 1.2, 0.9]
    """
    ours, theirs = (np.maximum(values, 1e-4) for values in (np.asarray(transfer, float), radial_transfer(psf)))
    columns = (np.array(hats(FREQUENCIES)) * np.log(ours) * theirs).T
    powers = np.linalg.lstsq(columns, np.log(theirs) * theirs, rcond=None)[0]
    return np.log(np.maximum(powers, 1e-3))
