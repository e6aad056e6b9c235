# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Sharper and wider PSFs, each stamp's own, in Fourier space."""

import numpy as np
import torch

from clustercnn.psf_powers import hats

__all__ = ["PSFVariation"]

FAINTEST = 1e-4  # amplitudes below it, which carry no light, are taken for as much


class PSFVariation:
    """
    What turns Fourier amplitudes of light seen through given PSFs into those of light seen through sharper or wider ones.

    The transfer function of a PSF, pixel included, is raised to a power: below 1 it is sharper, above 1 wider, whatever its shape, and
    amplitudes of 0 stay 0. Powers for wings and core may differ; see `~clustercnn.psf_powers`.

    Parameters
    ----------
    psfs : sequence of `~clustercnn.psf.PSF`
        One per band.
    frequency_y, frequency_x : `~numpy.ndarray`
        Frequencies of the rows and columns of the amplitudes, cycles per native pixel.
    device : str or `~torch.device`
        Where the tensors live.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from clustercnn.psf import hst_psf
    >>> from clustercnn.simulation import PSFVariation
    >>> vary = PSFVariation([hst_psf("F438W")], np.fft.fftfreq(64), np.fft.rfftfreq(64))
    >>> factors = vary(torch.log(torch.tensor([[[0.5, 0.5, 0.5]], [[1.0, 1.0, 1.0]]])))
    >>> [round(float(factor), 2) for factor in factors[:, 0, 0, 16]]
    [2.3, 1.0]
    """

    def __init__(self, psfs, frequency_y, frequency_x, device="cpu"):
        amplitude = np.stack([np.abs(psf.otf(frequency_y[:, None], frequency_x[None, :])) for psf in psfs])
        weights = np.stack(hats(np.hypot(frequency_y[:, None], frequency_x[None, :])))
        self._log_amplitude, self._hats = (
            torch.from_numpy(values).to(device, torch.float32) for values in (np.log(np.maximum(amplitude, FAINTEST)), weights)
        )

    def __call__(self, powers):
        """
        The factors of the amplitudes.

        Parameters
        ----------
        powers : `~torch.Tensor`
            Natural logarithms of the powers at the nodes, shape (n, n_bands, 3).

        Returns
        -------
        factors : `~torch.Tensor`
            Shape (n, n_bands, ny, nx).
        """
        exponent = torch.einsum("nbk,kyx->nbyx", torch.expm1(powers), self._hats)
        return exponent.mul_(self._log_amplitude).exp_()
