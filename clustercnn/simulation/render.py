# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Stars to pixels: the array core that renders many stamps at once, in torch."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch

from clustercnn.instruments import check_instrument
from clustercnn.psf import PSF, as_psf, builtin_psf, check_psf_scale
from clustercnn.simulation.psf_variation import PSFVariation

__all__ = ["Renderer", "band_psfs"]

# The spreading kernel of a non-uniform FFT, exp(beta (sqrt(1 - z^2) - 1)): its width in points and its beta for grids so many times
# finer than the native pixels. Bilinear spreading would leave errors of several per cent of a star's peak.
KERNELS = {2: (6, 10.2), 4: (4, 10.4)}
SHARP = 5e-4  # share of a PSF's amplitudes beyond one cycle per pixel from which on it needs the finer grid
MANY_STARS = 30_000  # in one stamp; from here on the finer grid is faster, too, since fewer points take each star's light
PHASES = 4096  # of a star between two fine pixels: 1/16000 of a native pixel at most is lost
STEPS_PER_FREQUENCY = 4  # of the transforms of smooth profiles, in a frequency of the padded stamp
# On a CPU as much at once as its cache holds: pixels of fine grids, and stars.
CACHED_PIXELS = 800_000
STARS_AT_ONCE = 4096


def band_psfs(psf, instrument, position=None):
    """
    The PSF of each band of an instrument, checked.

    Parameters
    ----------
    psf : dict or None
        Band -> `~clustercnn.psf.PSF`, or `~photutils.psf.GriddedPSFModel` where there is a position; None for the built-in HST model.
    instrument : `~clustercnn.instruments.Instrument`
        With the bands.
    position : tuple of float, optional
        ``(x, y)`` at which PSFs are taken that depend on it.

    Returns
    -------
    psf : dict
        Band -> `~clustercnn.psf.PSF`.

    Raises
    ------
    TypeError
        If ``psf`` is no dict, an entry of it is no PSF, or one depends on the position and there is none.
    ValueError
        If a band has no entry, or one that is known to be sampled for pixels of another scale.

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
    check_instrument(instrument)
    if psf is None:
        return builtin_psf(instrument)
    example = f"such as psf={{{instrument.bands[0]!r}: as_psf(kernel), ...}}"
    if not isinstance(psf, Mapping):
        raise TypeError(f"psf must be a dict of band -> PSF, {example}, not a {type(psf).__name__}")
    missing = [band for band in instrument.bands if band not in psf]
    if missing:
        raise ValueError(f"psf must have an entry for each band of the instrument, but has none for {missing}")
    psfs = {band: _psf_at(psf[band], position, band, example) for band in instrument.bands}
    for band, one in psfs.items():
        check_psf_scale(one, instrument.pixel_scale, band)
    return psfs


def _psf_at(psf, position, band, example):
    if isinstance(psf, PSF):
        return psf
    if hasattr(psf, "grid_xypos"):  # a GriddedPSFModel; photutils is not imported for this
        if position is None:
            raise TypeError(f"psf of {band} depends on the position: choose one, psf={{{band!r}: as_psf(model, position=(x, y)), ...}}")
        return as_psf(psf, position=position)
    raise TypeError(f"psf must hold a PSF for each band, {example}, but that of {band} is a {type(psf).__name__}")


def _spreading_kernel(distance, width, beta):
    """Value of the kernel at a distance in fine pixels (at most half the width)."""
    z = 2.0 / width * distance
    return np.exp(beta * (np.sqrt(np.maximum(1.0 - z * z, 0.0)) - 1.0))


def _spreading_kernel_transform(frequency, width, beta):
    """Fourier transform of the kernel at frequencies in cycles per fine pixel, 1 at frequency 0."""
    nodes, weights = np.polynomial.legendre.leggauss(100)
    distance = nodes * width / 2
    values = _spreading_kernel(distance, width, beta) * weights
    return (np.cos(2 * np.pi * np.asarray(frequency)[:, None] * distance) * values).sum(axis=1) / values.sum()


def _sharpness(psf):
    """Share of the PSF's Fourier amplitudes (pixel included) beyond one cycle per pixel."""
    frequency = np.linspace(-2, 2, 65)
    amplitude = np.abs(psf.otf(frequency[:, None], frequency[None, :]))
    return 1.0 - amplitude[np.ix_(np.abs(frequency) <= 1, np.abs(frequency) <= 1)].sum() / amplitude.sum()


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

    Stars are spread onto a grid of half (or quarter) pixels by a smooth kernel, one FFT per stamp and band brings them to Fourier space, where
    the kernel is divided out and the optical transfer function (PSF times pixel response) multiplied in; the result is folded to the
    native frequencies, which samples it at the pixel centres, and transformed back. Positions follow the pixel convention: the
    centre of the first pixel is (0, 0).

    Parameters
    ----------
    psfs : sequence of `~clustercnn.psf.PSF`
        One per band.
    shape : tuple of int
        ``(ny, nx)`` of the stamps.
    device : str or `~torch.device`
        Where the tensors live.
    many_stars : bool
        Whether there are tens of thousands of stars in a stamp. Takes the finer grid, which is then faster.
    smooth_reach : float
        How far smooth light reaches from the middle of the stamp, in native pixels.

    Attributes
    ----------
    radial_frequency : `~torch.Tensor`
        Frequencies at which transforms of smooth profiles are asked for, cycles per native pixel.

    Notes
    -----
    The stamp is padded by the radius of the largest PSF on every side, and so far that smooth light does not come back on the other
    side: nothing wraps around. Stars farther outside than the PSF's radius do not touch the stamp and are dropped. Where a PSF is so
    sharp that it has power beyond one cycle per pixel, the grid is of quarter pixels, up to two cycles per pixel. The largest error
    of a pixel is then a few 1e-4 of a star's peak at any phase of it.

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

    def __init__(self, psfs, shape, device="cpu", many_stars=False, smooth_reach=0.0):
        self.psfs = list(psfs)
        self.shape = tuple(int(n) for n in shape)
        self.n_bands = len(psfs)
        self.device = torch.device(device)
        self.fine = fine = 4 if many_stars or any(_sharpness(psf) > SHARP for psf in psfs) else 2
        self._width, beta = KERNELS[fine]
        # How far a star reaches, in native pixels: half the PSF and half a pixel.
        self.reach = max(int(np.ceil(max(psf.data.shape) / psf.oversampling / 2 + 0.5)) for psf in psfs)
        self.padded = tuple(_fast_length(max(n + 2 * self.reach, int(np.ceil(n / 2 + smooth_reach)))) for n in self.shape)
        self._frequency_step = 1 / (STEPS_PER_FREQUENCY * max(self.padded))
        self.radial_frequency = torch.arange(0.0, 1.5, self._frequency_step, device=device)
        ny, nx = (fine * n for n in self.padded)
        fine_y, fine_x = np.fft.fftfreq(ny), np.fft.rfftfreq(nx)  # cycles per fine pixel
        self.frequency_y = torch.from_numpy(fine_y * fine).float().to(device)  # cycles per native pixel
        self.frequency_x = torch.from_numpy(fine_x * fine).float().to(device)
        unspread = 1.0 / np.outer(*(_spreading_kernel_transform(frequency, self._width, beta) for frequency in (fine_y, fine_x)))
        otf = np.stack([psf.otf(fine_y[:, None] * fine, fine_x[None, :] * fine) for psf in psfs])
        # What a star's spread light is multiplied by, and what smooth light is multiplied by before it joins it.
        self.transfer = torch.from_numpy(otf * unspread).to(device, torch.complex64)
        self.spread = torch.from_numpy(1.0 / unspread).float().to(device)
        points = np.arange(self._width)[:, None]
        weights = _spreading_kernel(points - self._width / 2 + np.arange(PHASES + 1) / PHASES, self._width, beta)
        # Their sum varies with the phase by a few parts in a million, and so would the stars' flux.
        self._weights = torch.from_numpy(weights / weights.sum(axis=0)).to(device, torch.float32)
        self._points = torch.from_numpy(points).to(device)
        self._stamps_at_once = max(1, CACHED_PIXELS // (self.n_bands * ny * nx)) if self.device.type == "cpu" else None

    def __call__(self, x, y, flux, stamp, n_stamps, smooth=None, blur=None, powers=None):
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
            Light that follows smooth circular profiles: their Hankel transforms at `radial_frequency`, shape (n_stamps,
            n_frequencies); their centres in native pixels, shape (n_stamps, 2); and their rates, shape
            (n_stamps, n_bands).
        blur : `~torch.Tensor`, optional
            Variance (native pixels squared, per axis) of an extra Gaussian blur of each stamp, shape (n_stamps,).
        powers : `~torch.Tensor`, optional
            How much sharper or wider each stamp's PSFs are, shape (n_stamps, n_bands, 3); see
            `~clustercnn.simulation.PSFVariation`.

        Returns
        -------
        pixels : `~torch.Tensor`
            Rates, float32, shape (n_stamps, n_bands, ny, nx).
        """
        if bool((stamp[1:] < stamp[:-1]).any()):
            order = torch.argsort(stamp, stable=True)
            x, y, flux, stamp = x[order], y[order], flux[:, order], stamp[order]
        step = self._stamps_at_once or max(1, n_stamps)
        starts = torch.arange(0, n_stamps, step, device=self.device)
        first = [*torch.searchsorted(stamp, starts).tolist(), len(stamp)]
        pixels = torch.empty(n_stamps, self.n_bands, *self.shape, device=self.device)
        for i, start in enumerate(starts.tolist()):
            stars, stamps = slice(first[i], first[i + 1]), slice(start, min(start + step, n_stamps))
            n = stamps.stop - start
            light = torch.fft.rfft2(self._spread(x[stars], y[stars], flux[:, stars], stamp[stars] - start, n))
            if smooth is not None:
                radial, centre, rate = (part[stamps] for part in smooth)
                profile = self._profiles(radial, centre)
                for band in range(self.n_bands):
                    light[:, band].addcmul_(profile, rate[:, band, None, None].to(profile.dtype))
            light *= self.transfer
            if powers is not None:
                own = powers[stamps]
                varied = torch.nonzero(own.flatten(1).any(1))[:, 0]
                light[varied] *= self._variation(own[varied])
            pixels[stamps] = self._sample(light, None if blur is None else blur[stamps])
        return pixels

    @cached_property
    def _variation(self):
        frequencies = (frequency.cpu().numpy().astype(float) for frequency in (self.frequency_y, self.frequency_x))
        return PSFVariation(self.psfs, *frequencies, self.device)

    def _spread(self, x, y, flux, stamp, n_stamps):
        """Stars to a fine periodic grid, shape (n_stamps, n_bands, fine ny, fine nx)."""
        ny, nx = (self.fine * n for n in self.padded)
        inside = (x > -self.reach) & (x < self.shape[1] - 1 + self.reach) & (y > -self.reach) & (y < self.shape[0] - 1 + self.reach)
        if not bool(inside.all()):
            x, y, flux, stamp = x[inside], y[inside], flux[:, inside], stamp[inside]
        # Stars near the edge spread over it; what lies beyond is folded back.
        edge = self._width
        wide_y, wide_x = ny + 2 * edge, nx + 2 * edge
        grid = torch.zeros(self.n_bands, n_stamps * wide_y * wide_x, device=self.device)
        step = STARS_AT_ONCE if self.device.type == "cpu" else max(1, len(x))
        for some in (slice(start, start + step) for start in range(0, len(x), step)):
            column, weight_x = self._footprint(x[some])
            row, weight_y = self._footprint(y[some])
            index = ((row + stamp[some] * wide_y)[:, None] * wide_x + column).reshape(-1)
            weight = weight_y[:, None] * weight_x
            for band in range(self.n_bands):
                grid[band].scatter_add_(0, index, (weight * flux[band, some].float()).reshape(-1))
        grid = grid.reshape(self.n_bands, n_stamps, wide_y, wide_x)
        for axis, n in ((2, ny), (3, nx)):
            inner, first, last = (grid.narrow(axis, start, edge) for start in (edge, 0, n + edge))
            grid.narrow(axis, n, edge).add_(first)
            inner.add_(last)
        return grid[:, :, edge:-edge, edge:-edge].transpose(0, 1)

    def _footprint(self, position):
        """Places, counted from a kernel's width before the edge, and weights of stars along an axis, each of shape (width, n_stars)."""
        # Positions near the edge of a wide field need more digits than float32 has; the phase does not.
        left = self.fine * (position.double() + self.reach) - self._width / 2
        first = torch.ceil(left)
        phase = torch.round((first - left) * PHASES).long()
        return first.long() + (self._points + self._width), self._weights.index_select(1, phase)

    def _profiles(self, radial, centre):
        """Transforms of smooth circular profiles, as those of the spread stars, shape (n_stamps, fine ny, fine nx / 2 + 1)."""
        half = len(self.frequency_y) // 2 + 1  # an amplitude depends on the size of the frequencies alone
        frequency = torch.sqrt(self.frequency_y[:half, None] ** 2 + self.frequency_x**2)
        place = (frequency / self._frequency_step).clamp_max(radial.shape[1] - 2)
        index = place.long()
        start, end = radial[:, index.reshape(-1)], radial[:, index.reshape(-1) + 1]
        amplitude = torch.lerp(start, end, (place - index).reshape(-1)).reshape(len(radial), *frequency.shape) * self.spread[:half]
        amplitude = torch.cat([amplitude, amplitude[:, 1:-1].flip(1)], dim=1)
        shift_x, shift_y = (
            torch.polar(torch.ones_like(angle), angle)
            for angle in (
                -2 * np.pi * (centre[:, axis, None].float() + self.reach) * frequency
                for axis, frequency in enumerate((self.frequency_x, self.frequency_y))
            )
        )
        return amplitude * (shift_y[:, :, None] * shift_x[:, None, :])

    def _gaussian(self, variance):
        """Transform of Gaussians of the given variances, shape (n_stamps, native ny, fine nx / 2 + 1)."""
        exponent = -2 * np.pi**2 * variance.float()
        in_y = torch.exp(exponent[:, None] * torch.fft.fftfreq(self.padded[0], device=self.device) ** 2)
        in_x = torch.exp(exponent[:, None] * self.frequency_x**2)
        return in_y[:, :, None] * in_x[:, None, :]

    def _sample(self, light, blur):
        """Pixels of the stamp from the fine Fourier grid: aliases that meet at native pixel centres are added up on the way."""
        ny, nx = self.padded
        # Along y the fine frequencies that differ by ny meet. Along x, where half of the plane is stored, the partner of k is the
        # conjugate of nx - k once y is back in real space.
        light = light.unflatten(-2, (self.fine, ny)).sum(dim=-3)
        if blur is not None:
            # Here, on the sampled rows, since it need not be exact to the last alias.
            light *= self._gaussian(blur)[:, None]
        light = torch.fft.ifft(light, dim=-2)
        half = nx // 2 + 1
        rows = slice(self.reach, self.reach + self.shape[0])
        columns = slice(self.reach, self.reach + self.shape[1])
        light = light[..., rows, :]
        folded = sum(
            light[..., start : start + half] + light[..., start + nx - half + 1 : start + nx + 1].flip(-1).conj()
            for start in range(0, nx * self.fine // 2, nx)
        )
        return torch.fft.irfft(folded, n=nx, dim=-1)[..., columns]
