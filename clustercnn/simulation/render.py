# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Stars to pixels: the array core that renders many stamps at once, in torch."""

from collections.abc import Mapping

import numpy as np
import torch

from clustercnn.psf import PSF, builtin_psf

__all__ = ["Renderer", "band_psfs"]

# The spreading kernel of a non-uniform FFT, exp(beta (sqrt(1 - z^2) - 1)), on `WIDTH` points of a grid `FINE` times finer than
# the native pixels. Bilinear spreading would leave errors of several per cent of a star's peak.
WIDTH = 6
BETA = 11.5
FINE = 2


def band_psfs(psf, instrument):
    """
    The PSF of each band of an instrument, checked.

    Parameters
    ----------
    psf : dict of `~clustercnn.psf.PSF` or None
        One per band; None for the built-in HST model.
    instrument : `~clustercnn.instruments.Instrument`
        With the bands.

    Returns
    -------
    psf : dict
        Band -> `~clustercnn.psf.PSF`.

    Raises
    ------
    TypeError
        If ``psf`` is no dict, or an entry of it is no PSF.
    ValueError
        If a band has no entry.

    Examples
    --------
    >>> import numpy as np
    >>> from clustercnn.instruments import Instrument
    >>> from clustercnn.psf import as_psf
    >>> from clustercnn.simulation.render import band_psfs
    >>> m83 = Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> band_psfs(dict.fromkeys(m83.bands, as_psf(np.ones((5, 5)))), m83)["F438W"]
    <PSF (5, 5), 4x oversampled, pixel_integrated=False>
    """
    if psf is None:
        return builtin_psf(instrument)
    example = f"such as psf={{{instrument.bands[0]!r}: as_psf(kernel), ...}}"
    if not isinstance(psf, Mapping):
        raise TypeError(f"psf must be a dict of band -> PSF, {example}, not a {type(psf).__name__}")
    missing = [band for band in instrument.bands if band not in psf]
    if missing:
        raise ValueError(f"psf must have an entry for each band of the instrument, but has none for {missing}")
    for band in instrument.bands:
        if not isinstance(psf[band], PSF):
            raise TypeError(f"psf must hold a PSF for each band, {example}, but that of {band} is a {type(psf[band]).__name__}")
    return psf


def _spreading_kernel(distance):
    """Value of the kernel at a distance in fine pixels (|distance| <= WIDTH / 2)."""
    z = 2.0 / WIDTH * distance
    return torch.exp(BETA * (torch.sqrt((1.0 - z * z).clamp_min(0.0)) - 1.0))


def _spreading_kernel_transform(frequency):
    """Fourier transform of the kernel at frequencies in cycles per fine pixel, 1 at frequency 0."""
    nodes, weights = np.polynomial.legendre.leggauss(100)
    distance = nodes * WIDTH / 2
    values = _spreading_kernel(torch.from_numpy(distance)).numpy() * weights * WIDTH / 2
    return (np.cos(2 * np.pi * np.asarray(frequency)[:, None] * distance) * values).sum(axis=1) / values.sum()


def _fast_length(n):
    """The next even length with no prime factor above 5, for fast Fourier transforms."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2


class Renderer:
    """
    Render stars into stamps of one shape through one PSF per band.

    Stars are spread onto a grid of half pixels by a smooth kernel, one FFT per stamp and band brings them to Fourier space, where
    the kernel is divided out and the optical transfer function (PSF times pixel response) multiplied in; the result is folded to the
    native frequencies, which samples it at the pixel centres, and transformed back. Positions follow the pixel convention: the
    centre of the first pixel is (0, 0).

    Parameters
    ----------
    psfs : sequence of `~clustercnn.psf.PSF`
        One per band.
    shape : tuple of int
        ``(ny, nx)`` of the stamps.

    Notes
    -----
    The stamp is padded by the radius of the largest PSF on every side, so that nothing wraps around. Stars farther outside than
    that do not touch the stamp and are dropped. Light at more than one cycle per pixel is left out, which costs less than a
    thousandth of a star's peak where a Gaussian core of the PSF (without the pixel) has a sigma of half a pixel or more.

    Examples
    --------
    >>> import torch
    >>> from clustercnn.psf import hst_psf
    >>> from clustercnn.simulation import Renderer
    >>> renderer = Renderer([hst_psf("F438W"), hst_psf("F814W")], shape=(32, 32))
    >>> x, y, rate = torch.tensor([15.3, 8.0]), torch.tensor([16.1, 20.4]), torch.ones(2, 2)
    >>> renderer(x, y, rate, stamp=torch.tensor([0, 0]), n_stamps=1).shape
    torch.Size([1, 2, 32, 32])
    """

    def __init__(self, psfs, shape):
        self.shape = tuple(int(n) for n in shape)
        self.n_bands = len(psfs)
        # How far a star reaches, in native pixels: half the PSF and half a pixel.
        self.reach = max(int(np.ceil(max(psf.data.shape) / psf.oversampling / 2 + 0.5)) for psf in psfs)
        self.padded = tuple(_fast_length(n + 2 * self.reach) for n in self.shape)
        ny, nx = (FINE * n for n in self.padded)
        fine_y, fine_x = np.fft.fftfreq(ny), np.fft.rfftfreq(nx)  # cycles per fine pixel
        self.frequency_y = torch.from_numpy(fine_y * FINE).float()  # cycles per native pixel
        self.frequency_x = torch.from_numpy(fine_x * FINE).float()
        unspread = 1.0 / (_spreading_kernel_transform(fine_y)[:, None] * _spreading_kernel_transform(fine_x))
        otf = np.stack([psf.otf(fine_y[:, None] * FINE, fine_x[None, :] * FINE) for psf in psfs])
        # What a star's spread light is multiplied by, and what smooth light is multiplied by before it joins it.
        self.transfer = torch.from_numpy(otf * unspread).to(torch.complex64)
        self.spread = torch.from_numpy(1.0 / unspread).float()

    def __call__(self, x, y, flux, stamp, n_stamps, smooth=None, blur=None):
        """
        Render.

        Parameters
        ----------
        x, y : `~torch.Tensor`
            Positions of the stars in native pixels, shape (n_stars,).
        flux : `~torch.Tensor`
            Their rates, shape (n_bands, n_stars).
        stamp : `~torch.Tensor`
            Index of the stamp of each star, int64, shape (n_stars,).
        n_stamps : int
            Number of stamps.
        smooth : tuple of `~torch.Tensor`, optional
            Light that follows a smooth profile: the profiles' transforms by `profile_transform`, and their rates, shape
            (n_stamps, n_bands).
        blur : `~torch.Tensor`, optional
            Variance (native pixels squared, per axis) of an extra Gaussian blur of each stamp, shape (n_stamps,).

        Returns
        -------
        pixels : `~torch.Tensor`
            Rates, float32, shape (n_stamps, n_bands, ny, nx).
        """
        light = torch.fft.rfft2(self._spread(x, y, flux, stamp, n_stamps))
        if smooth is not None:
            profile, rate = smooth
            profile = profile * self.spread
            for band in range(self.n_bands):
                light[:, band] += profile * rate[:, band, None, None]
        light *= self.transfer
        return self._sample(light, blur)

    def _spread(self, x, y, flux, stamp, n_stamps):
        """Stars to a fine periodic grid, shape (n_stamps, n_bands, fine ny, fine nx)."""
        ny, nx = (FINE * n for n in self.padded)
        inside = (x > -self.reach) & (x < self.shape[1] - 1 + self.reach) & (y > -self.reach) & (y < self.shape[0] - 1 + self.reach)
        if not bool(inside.all()):
            x, y, flux, stamp = x[inside], y[inside], flux[:, inside], stamp[inside]
        u, v = FINE * (x + self.reach), FINE * (y + self.reach)
        steps = torch.arange(WIDTH)
        first_u = torch.ceil(u - WIDTH / 2)
        first_v = torch.ceil(v - WIDTH / 2)
        weight_u = _spreading_kernel(first_u[:, None] + steps - u[:, None])
        weight_v = _spreading_kernel(first_v[:, None] + steps - v[:, None])
        # Their sum varies with the phase by a few parts in a million, and so would the stars' flux.
        weight_u = (weight_u / weight_u.sum(dim=1, keepdim=True)).float()
        weight_v = (weight_v / weight_v.sum(dim=1, keepdim=True)).float()
        column = (first_u.long()[:, None] + steps) % nx
        row = (first_v.long()[:, None] + steps) % ny
        index = ((stamp[:, None] * ny + row) * nx)[:, :, None] + column[:, None, :]
        weight = weight_v[:, :, None] * weight_u[:, None, :]
        grid = torch.zeros(self.n_bands, n_stamps * ny * nx)
        for band in range(self.n_bands):
            grid[band].scatter_add_(0, index.reshape(-1), (weight * flux[band].float()[:, None, None]).reshape(-1))
        return grid.reshape(self.n_bands, n_stamps, ny, nx).transpose(0, 1)

    def profile_transform(self, radial, step, x, y):
        """
        Transform of circular profiles of unit flux at (x, y).

        Parameters
        ----------
        radial : `~torch.Tensor`
            The profiles' Hankel transforms at frequencies 0, step, 2 step ... (cycles per native pixel), shape (n_stamps, n_frequencies).
        step : float
            The step in frequency.
        x, y : `~torch.Tensor`
            The centres in native pixels, shape (n_stamps,).

        Returns
        -------
        transform : `~torch.Tensor`
            Complex, shape ``(n_stamps, *grid)``.
        """
        frequency = torch.sqrt(self.frequency_y[:, None] ** 2 + self.frequency_x**2)
        place = (frequency / step).clamp_max(radial.shape[1] - 2).reshape(-1)
        index = place.long()
        amplitude = torch.lerp(radial[:, index], radial[:, index + 1], place - index).reshape(len(radial), *frequency.shape)
        shift_y = torch.exp(-2j * np.pi * (y.float() + self.reach)[:, None] * self.frequency_y)
        shift_x = torch.exp(-2j * np.pi * (x.float() + self.reach)[:, None] * self.frequency_x)
        return amplitude * (shift_y[:, :, None] * shift_x[:, None, :])

    def _gaussian(self, variance):
        """Transform of Gaussians of the given variances, shape (n_stamps, native ny, fine nx / 2 + 1)."""
        exponent = -2 * np.pi**2 * variance.float()
        in_y = torch.exp(exponent[:, None] * torch.fft.fftfreq(self.padded[0]) ** 2)
        in_x = torch.exp(exponent[:, None] * self.frequency_x**2)
        return in_y[:, :, None] * in_x[:, None, :]

    def _sample(self, light, blur):
        """Pixels of the stamp from the fine Fourier grid: aliases that meet at native pixel centres are added up on the way."""
        ny, nx = self.padded
        # Along y the fine frequencies k and k - ny meet. Along x, where half of the plane is stored, the partner of k is the
        # conjugate of nx - k once y is back in real space.
        light = light[..., :ny, :] + light[..., ny:, :]
        if blur is not None:
            # Here, on the sampled rows, since it need not be exact to the last alias.
            light *= self._gaussian(blur)[:, None]
        light = torch.fft.ifft(light, dim=-2)
        half = nx // 2 + 1
        light = light[..., :half] + light[..., nx - half + 1 :].flip(-1).conj()
        rows = slice(self.reach, self.reach + self.shape[0])
        columns = slice(self.reach, self.reach + self.shape[1])
        return torch.fft.irfft(light[..., rows, :], n=nx, dim=-1)[..., columns].contiguous()
