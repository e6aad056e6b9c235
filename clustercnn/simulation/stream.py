# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""MockStream: an endless, seeded stream of labelled stamps to train on."""

from copy import copy
from itertools import count

import numpy as np
import torch
from astropy import units as u

from clustercnn.images import pixel_shape
from clustercnn.instruments import check_instrument, same_pixel_scale
from clustercnn.parameters import positive_quantity
from clustercnn.psf_powers import NODES, OWN_POWER, radial_transfer
from clustercnn.seeds import seed_sequence
from clustercnn.simulation.background import BackgroundFields, star_rates
from clustercnn.simulation.mosaic_background import MosaicBackground, check_pixel_scale
from clustercnn.simulation.negatives import NEGATIVE_KINDS, NEGATIVES, draw_negatives
from clustercnn.simulation.noise import Detector, add_noise, correlate, warn_of_missing_noise
from clustercnn.simulation.psf_variation import PSFVariation
from clustercnn.simulation.random_numbers import RandomTensors
from clustercnn.simulation.render import Renderer, band_psfs
from clustercnn.simulation.scenes import ClusterScenes, Scenes
from clustercnn.simulation.shards import write_shards
from clustercnn.simulation.visibility import APERTURE_RADIUS, Visibility
from clustercnn.stellar.imf import get_imf

__all__ = ["MockStream"]

M83, M83_DISTANCE = "HST/WFC3/UVIS/M83", 4.5 * u.Mpc  # the one preset whose galaxy is known
# Samples are simulated in chunks of these sizes, which start at multiples of them: what a sample is depends on no batch.
CHUNKS = {"cpu": 32, "cuda": 1024}
# Every chunk has a generator for each of these; changing one of them leaves the others as they are.
STREAMS = ("labels", "backgrounds", "stars", "positions", "negatives", "exposures", "photons", "readout", "psfs", "neighbours")
JITTER = 0.5  # pixels: a source lies up to this far from the stamp's centre along each axis
BLUR = 0.08  # pixel^2: largest variance of the extra blur that stands for focus changes
MARGIN = 16  # pixels around a stamp of the background whose light a sharper or wider PSF moves


class MockStream:
    """
    An endless sequence of simulated stamps with their labels; sample i depends on the seed and i alone.

    On a CPU any batches and any number of workers give the same samples, bit for bit. On a GPU the samples are others, of the same
    distribution.

    Parameters
    ----------
    space : `~clustercnn.parameters.ParameterSpace`
        Clusters are drawn from its prior.
    instrument : `~clustercnn.instruments.Instrument`
        Bands, pixel scale, zero points, exposures, noise.
    psf : dict of `~clustercnn.psf.PSF`, optional
        One per band; default: the built-in HST model.
    background : `~clustercnn.simulation.BackgroundFields` or `~clustercnn.simulation.MosaicBackground`, optional
        Default: a pool of synthetic discs. Before a real mosaic, which holds its noise already, only the clusters' own photons add
        noise, and ``neighbour_fraction``, ``depth_scatter``, ``noise_correlation`` and ``psf_scatter`` must be 0.
    negatives : dict, optional
        Kinds of negatives and their shares, which are normalised; default `~clustercnn.simulation.negatives.NEGATIVES`.
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        The seed of the stream.
    shape : tuple of int
        ``(ny, nx)`` of the stamps.
    distance : `~astropy.units.Quantity`
        Distance of the galaxy; with the preset of its data the default is that of M83 in the paper, 4.5 Mpc, else it is needed. Discs that
        `BackgroundFields.discs` has drawn must be at the same.
    positive_fraction : float
        Share of stamps with a cluster.
    neighbour_fraction : float
        Share of stamps with another cluster of the prior 4 to 24 pixels from the centre, whatever is there: part of the light behind. In
        stamps narrower than 50 pixels some of them lie outside.
    depth_scatter : float
        Each band of each stamp is exposed longer or shorter by up to this many dex; ``depth`` of a batch says by how much.
    noise_correlation : float
        Each stamp's noise is correlated between neighbouring pixels by up to this much, 0 to 0.25, see `Detector.expose`.
    psf_scatter : float
        In half of the stamps the PSF of each band is sharper or wider: its transfer function is raised to powers up to exp(4/3 of this) or down
        to its inverse, see `~clustercnn.simulation.PSFVariation`; for Gaussians that is the ratio of the variances. ``psf`` of a
        batch says to which. The light behind the clusters is made sharper or wider, too.
    metallicity, isochrones, imf
        Of the clusters, as in `~clustercnn.simulation.SyntheticCluster`; a background is not touched.
    extinction_law : str or dust_extinction model
        Curve of the dust before the clusters and, unless you give a ``background``, in the discs behind, see
        `~clustercnn.stellar.get_law`. That of Fitzpatrick (1999) ends at 3.3 um; ``"G23"`` reaches further.
    r_v : float, optional
        Of the dust before the clusters; default 3.1.
    profiles : sequence of `~clustercnn.profiles.Profile`, optional
        Each cluster has one of them, all equally likely. Default: EFF with slopes of 2.2 to 3.5.
    device : str or `~torch.device`
        Where all of it is done, and where the batches are: ``"cpu"`` or ``"cuda"``.

    Examples
    --------
    >>> from clustercnn import instruments, parameters
    >>> from clustercnn.simulation import BackgroundFields, MockStream
    >>> import numpy as np
    >>> m83 = instruments.Instrument.from_name("HST/WFC3/UVIS/M83")
    >>> empty = BackgroundFields([np.zeros((3, 64, 64))])
    >>> stream = MockStream(parameters.ParameterSpace.paper(), m83, background=empty, rng=1)
    >>> batch = stream.batch(0, 4)
    >>> batch["pixels"].shape
    torch.Size([4, 3, 64, 64])
    """

    def __init__(
        self,
        space,
        instrument,
        *,
        psf=None,
        background=None,
        negatives=None,
        rng=0,
        shape=(64, 64),
        distance=None,
        positive_fraction=0.6,
        neighbour_fraction=0.0,
        depth_scatter=0.0,
        noise_correlation=0.0,
        psf_scatter=0.0,
        metallicity=0.0,
        isochrones=None,
        imf="kroupa",
        extinction_law="F99",
        r_v=None,
        profiles=None,
        device="cpu",
    ):
        check_instrument(instrument)
        for name, share in (("positive_fraction", positive_fraction), ("neighbour_fraction", neighbour_fraction)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} must lie in 0..1, not {share}")
        if not 0.0 <= depth_scatter < np.inf:
            raise ValueError(f"depth_scatter must be 0 dex or more, not {depth_scatter}")
        if not 0.0 <= noise_correlation <= 0.25:
            raise ValueError(f"noise_correlation must lie in 0..0.25, not {noise_correlation}")
        self.device = torch.device(device)
        if self.device.type not in CHUNKS:
            raise ValueError(f"device must be one of {tuple(CHUNKS)}, not {device!r}")
        self.chunk_size = CHUNKS[self.device.type]
        self.space = space
        self.instrument = instrument
        self.shape = pixel_shape(shape)
        if distance is None and instrument.name != M83:
            raise TypeError(f"distance must be given, such as distance=20 * u.Mpc: only the instrument {M83} brings one, not {instrument.name}")
        self.distance = positive_quantity(M83_DISTANCE if distance is None else distance, u.Mpc, "distance")
        self.positive_fraction = positive_fraction
        self.neighbour_fraction = neighbour_fraction
        self.depth_scatter = depth_scatter
        self.noise_correlation = noise_correlation
        self.negatives = dict(NEGATIVES if negatives is None else negatives)
        if unknown := [kind for kind in self.negatives if kind not in NEGATIVE_KINDS]:
            raise ValueError(f"negatives must be of the kinds {NEGATIVE_KINDS}, not {unknown}")
        shares = np.array(list(self.negatives.values()), dtype=float)
        if not (len(shares) and np.all(shares >= 0) and 0 < shares.sum() < np.inf):
            raise ValueError(f"negatives must have shares of 0 or more, not all 0, such as {NEGATIVES}, not {self.negatives}")
        self._shares = np.cumsum(shares) / shares.sum()
        seed = seed_sequence(rng)
        # the sequence is SeedSequence(seed, spawn_key=spawn_key)
        self.seed, self.spawn_key = _plain_integers(seed.entropy), _plain_integers(seed.spawn_key)
        backgrounds, samples = (np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, i)) for i in range(2))
        self._key = samples.generate_state(2, np.uint64)
        self.psf = psf = band_psfs(psf, instrument)
        if background is None:
            background = BackgroundFields.discs(
                instrument, rng=backgrounds, distance=self.distance, psf=psf, extinction_law=extinction_law
            )
        if background.n_bands != len(instrument.bands):
            raise ValueError(f"background must have the {len(instrument.bands)} bands of the instrument, not {background.n_bands}")
        if background.noisy and (neighbour_fraction or depth_scatter or noise_correlation or psf_scatter):
            raise ValueError(
                "neighbour_fraction, depth_scatter, noise_correlation and psf_scatter must be 0 before a background that holds its noise already"
            )
        if isinstance(background, BackgroundFields) and background.instrument is not None:
            _check_discs(background, instrument, self.distance)
        if isinstance(background, MosaicBackground):  # whose bands have names
            if background.images.bands != tuple(instrument.bands):
                raise ValueError(f"background must have the bands {tuple(instrument.bands)} of the instrument, in this order, not "
                                 f"{background.images.bands}: give the instrument to MosaicBackground, too")
            check_pixel_scale(background.images, instrument)
            if background.instrument is not None:
                _check_same_instrument(background.instrument, instrument, "the mosaic")
        self.background = background
        profiles = None if profiles is None else list(profiles)
        self._clusters = ClusterScenes(
            space, instrument, star_rates(instrument, self.distance), metallicity, isochrones, imf, device, extinction_law, r_v, profiles
        )
        # as given; None stands for the default
        self.population = {
            "metallicity": float(metallicity),
            "isochrones": None if isochrones is None else isochrones.source,
            "imf": repr(get_imf(imf)),
            "r_v": r_v,
            "profiles": None if profiles is None else [repr(profile) for profile in profiles],
        }
        if extinction_law != "F99":
            self.population["extinction_law"] = extinction_law if isinstance(extinction_law, str) else repr(extinction_law)
        self._renderer = Renderer([psf[band] for band in instrument.bands], self.shape, device, smooth_reach=self._clusters.reach)
        self._vary_psf(psf_scatter)
        if not background.noisy:
            warn_of_missing_noise(instrument)
        detector = Detector.from_instrument(instrument)
        self._exposure, self._sky, self._read_variance = (
            torch.from_numpy(values).to(device, torch.float32) for values in (detector.exposure, detector.sky, detector.read_variance)
        )
        self._visibility = Visibility(detector, self.shape, device=device)

    def _vary_psf(self, psf_scatter):
        if not 0.0 <= psf_scatter <= 1.0:
            raise ValueError(f"psf_scatter must lie in 0..1, not {psf_scatter}")
        self.psf_scatter = psf_scatter
        if psf_scatter:
            ny, nx = (n + 2 * MARGIN for n in self.shape)
            psfs = [self.psf[band] for band in self.instrument.bands]
            self._variation = PSFVariation(psfs, np.fft.fftfreq(ny), np.fft.rfftfreq(nx), self.device)

    def with_psf_scatter(self, psf_scatter):
        """
        The same stream with another ``psf_scatter``: the clusters are those of before, the PSFs vary more or less.

        Parameters
        ----------
        psf_scatter : float
            As for the stream.

        Returns
        -------
        stream : `MockStream`

        Raises
        ------
        ValueError
            If it does not lie in 0..1, or is not 0 before a background that holds its noise already or has fields that are less than 32
            pixels larger than the stamps.
        """
        if psf_scatter and self.background.noisy:
            raise ValueError("psf_scatter must be 0 before a background that holds its noise already")
        if psf_scatter and isinstance(self.background, BackgroundFields):
            smallest = min(min(field.shape[1:]) for field in self.background.fields)
            if smallest < max(self.shape) + 2 * MARGIN:
                raise ValueError(f"psf_scatter must be 0 before fields of less than {max(self.shape) + 2 * MARGIN} pixels, not {smallest}")
        stream = copy(self)
        stream._vary_psf(psf_scatter)
        return stream

    @property
    def contract(self):
        """What a network trained on this stream may assume of its input; a JSON-able dict."""
        instrument = self.instrument
        return {
            "bands": list(instrument.bands),
            "unit": "electron / s",
            "zero_points": {band: float(instrument.zero_point(band).value) for band in instrument.bands},
            "pixel_scale": float(instrument.pixel_scale.to_value(u.arcsec / u.pix)),
            "stamp_shape": list(self.shape),
            "distance_mpc": float(self.distance.value),
            "exposure": {band: float(instrument.exposure(band).value) for band in instrument.bands},
            "light_within_pixels": {band: {str(r): round(psf.enclosed(r), 4) for r in (1, 2, 4)} for band, psf in self.psf.items()},
            "instrument": instrument.to_dict(),
            "parameter_space": self.space.to_dict(),
            "background": type(self.background).__name__,
            "positive_fraction": self.positive_fraction,
            "neighbour_fraction": self.neighbour_fraction,
            "negatives": self.negatives,
            "depth_scatter": self.depth_scatter,
            "noise_correlation": self.noise_correlation,
            "psf_scatter": self.psf_scatter,
            "psf_transfer": {band: radial_transfer(psf).round(5).tolist() for band, psf in self.psf.items()},
            "population": self.population,
            "visibility_aperture_radius_pixels": APERTURE_RADIUS,
            "seed": self.seed,
            "spawn_key": self.spawn_key,
        }

    def batch(self, start, size):
        """
        Samples ``start`` to ``start + size``.

        Parameters
        ----------
        start, size : int
            Index of the first sample and number of samples.

        Returns
        -------
        batch : dict of `~torch.Tensor`
            ``pixels`` (size, n_bands, ny, nx) float32 electron/s; ``parameters`` (size, 4) coordinates of the space, NaN for
            negatives; ``is_cluster`` (size,) 0 or 1; ``visibility`` (size,), NaN for negatives; ``depth`` (size, n_bands), decimal
            logarithm of the exposure over the instrument's; ``psf`` (size, n_bands, 3), natural logarithm of the powers to which the
            transfer functions of the PSFs are raised, see `~clustercnn.psf_powers.psf_powers`.
        """
        if start < 0 or size < 1:
            raise ValueError(f"start must be 0 or more and size at least 1, not {start} and {size}")
        first = start - start % self.chunk_size
        chunks = [self._chunk(i) for i in range(first, start + size, self.chunk_size)]
        joined = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        return {name: values[start - first : start - first + size] for name, values in joined.items()}

    def batches(self, size, start=0, stop=None):
        """
        An iterable of batches for `torch.utils.data.DataLoader`, whose workers share them out among themselves.

        Parameters
        ----------
        size : int
            Samples in a batch.
        start, stop : int
            Index of the first batch, and that before which to stop; None for no end.

        Returns
        -------
        batches : `~torch.utils.data.IterableDataset`
            Of dicts as from `batch`. In a loader with ``batch_size=None`` they come in the same order for any number of workers; a
            stream on a GPU takes none.

        Examples
        --------
        >>> from torch.utils.data import DataLoader
        >>> loader = DataLoader(stream.batches(128), batch_size=None, num_workers=2)  # doctest: +SKIP
        """
        return _Batches(self, size, start, stop)

    def write(self, n, directory, shard_size=8192, progress=True):
        """
        Write the first ``n`` samples to a directory as a fixed set; see `~clustercnn.simulation.write_shards`.

        Returns
        -------
        shards : `~clustercnn.simulation.MockShards`
            Which can take the place of the stream.
        """
        return write_shards(self, n, directory, shard_size, progress)

    def _chunk(self, start):
        n = self.chunk_size
        rng = {
            name: np.random.Generator(np.random.Philox(key=self._key, counter=[0, i, start, 0])) for i, name in enumerate(STREAMS)
        }
        middle = (np.array(self.shape[::-1]) - 1) / 2
        centre = middle + rng["labels"].uniform(-JITTER, JITTER, (n, 2))
        is_cluster = rng["labels"].random(n) < self.positive_fraction
        coordinates = self.space.from_unit(rng["labels"].random((n, len(self.space))))
        coordinates[~is_cluster] = np.nan
        kind = np.searchsorted(self._shares, rng["labels"].random(n), side="right")
        kind[is_cluster] = -1

        rows = np.flatnonzero(is_cluster)
        parts = [(self._clusters.clusters(coordinates[rows], centre[rows], rng["stars"], rng["positions"]), rows)]
        for i, name in enumerate(self.negatives):
            rows = np.flatnonzero(kind == i)
            parts.append((draw_negatives(name, self._clusters, centre[rows], rng["negatives"]), rows))
        powers = self._psf_powers(rng["psfs"])
        blur = BLUR * rng["labels"].random(n)
        light = self._clusters.render(Scenes.join(parts, n), self._renderer, blur, powers)
        background = self._backgrounds(rng["backgrounds"], powers)
        rows = np.flatnonzero(rng["neighbours"].random(n) < self.neighbour_fraction)
        if len(rows):
            others = draw_negatives("off_centre", self._clusters, centre[rows], rng["neighbours"])
            others = self._clusters.render(others, self._renderer, blur[rows], None if powers is None else powers[rows])
            background[rows] += others.clamp_min(0.0)
        depth = 10 ** (self.depth_scatter * rng["exposures"].uniform(-1.0, 1.0, (n, len(self.instrument.bands))))
        correlation = self.noise_correlation * rng["exposures"].random(n)
        depth, correlation = (torch.from_numpy(values).to(self.device, torch.float32) for values in (depth, correlation))
        visibility = self._visibility(light, background, depth, self.background.noisy)

        photons, readout = (RandomTensors(rng[name], self.device) for name in ("photons", "readout"))
        if self.background.noisy:
            exposure = self._exposure[:, None, None]
            pixels = background + photons.poisson(light.clamp_min(0.0) * exposure) / exposure
        else:
            rate = light + background
            pixels = add_noise(rate, self._exposure * depth, self._sky, self._read_variance, photons, readout)
            if self.noise_correlation:
                pixels = rate + correlate(pixels - rate, correlation)
        is_cluster = torch.from_numpy(is_cluster).to(self.device)
        return {
            "pixels": pixels,
            "parameters": torch.from_numpy(coordinates).to(self.device, torch.float32),
            "is_cluster": is_cluster.float(),
            "visibility": torch.where(is_cluster, visibility, torch.nan),
            "depth": torch.log10(depth),
            "psf": torch.zeros(n, len(self.instrument.bands), len(NODES), device=self.device) if powers is None else powers,
        }

    def _psf_powers(self, rng):
        """How much sharper or wider the PSFs of a chunk are, shape (n, n_bands, 3); None where they never are."""
        if not self.psf_scatter:
            return None
        shape = self.chunk_size, len(self.instrument.bands), len(NODES)
        powers = self.psf_scatter * (rng.uniform(-1.0, 1.0, (*shape[:2], 1)) + OWN_POWER * rng.uniform(-1.0, 1.0, shape))
        powers[rng.random(len(powers)) < 0.5] = 0.0
        return torch.from_numpy(powers).to(self.device, torch.float32)

    def _backgrounds(self, rng, powers):
        """The light behind the clusters of a chunk, through the PSFs of each stamp."""
        if powers is None:
            return self.background.stamps(self.chunk_size, self.shape, rng, self.device)
        wide = self.background.stamps(self.chunk_size, [n + 2 * MARGIN for n in self.shape], rng, self.device)
        rows = torch.nonzero(powers.flatten(1).any(1))[:, 0]
        wide[rows] = torch.fft.irfft2(torch.fft.rfft2(wide[rows]) * self._variation(powers[rows]), s=wide.shape[-2:])
        return wide[..., MARGIN:-MARGIN, MARGIN:-MARGIN].clamp_min(0.0)


class _Batches(torch.utils.data.IterableDataset):
    """Batches of a stream; each worker of a loader makes every so-many-th of them."""

    def __init__(self, stream, size, start, stop):
        self.stream, self.size, self.start, self.stop = stream, size, start, stop

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for i in count(self.start + first, step):
            if self.stop is not None and i >= self.stop:
                return
            yield self.stream.batch(i * self.size, self.size)


def _check_discs(discs, instrument, distance):
    """Raise a ValueError where discs are of another galaxy or instrument than the clusters before them."""
    if not abs(discs.distance / distance - 1) <= 0.01:
        raise ValueError(f"background is of discs at {discs.distance:.4g}, but the clusters are at {distance:.4g}: give both the same distance=")
    _check_same_instrument(discs.instrument, instrument, "discs")


def _check_same_instrument(others, own, what):
    """Raise a ValueError where a background would be fainter or brighter than the clusters before it."""
    same = own.passbands == others.passbands and same_pixel_scale(own.pixel_scale, others.pixel_scale)
    steps = [abs(own.zero_point(one) - others.zero_point(other)) for one, other in zip(own.bands, others.bands, strict=False)]
    if not same or max(steps) > 0.1 * u.mag:
        raise ValueError(f"background is of {what} through {others!r}, but the stream is of {own!r}: passbands, pixel scale and zero points "
                         "must be the same")


def _plain_integers(value):
    """Integers that JSON can hold, a list where there are several."""
    return [int(part) for part in value] if np.iterable(value) else int(value)
