# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""MockStream: an endless, seeded stream of labelled stamps to train on."""

import numpy as np
import torch
from astropy import units as u

from clustercnn.parameters import positive_quantity
from clustercnn.simulation.background import BackgroundFields, star_rates
from clustercnn.simulation.negatives import NEGATIVES, draw_negative
from clustercnn.simulation.noise import Detector
from clustercnn.simulation.render import Renderer, band_psfs
from clustercnn.simulation.scenes import ClusterScenes, SmoothLight, render_scenes
from clustercnn.simulation.visibility import APERTURE_RADIUS, Visibility

__all__ = ["MockStream"]

CHUNK = 32  # samples are simulated in groups that start at multiples of this, so that no rounding depends on the batch
JITTER = 0.5  # pixels: a source lies up to this far from the stamp's centre along each axis
BLUR = 0.08  # pixel^2: largest variance of the extra blur that stands for focus changes


class MockStream:
    """
    An endless sequence of simulated stamps with their labels; sample i depends on the seed and i alone.

    Parameters
    ----------
    space : `~clustercnn.parameters.ParameterSpace`
        Clusters are drawn from its prior.
    instrument : `~clustercnn.instruments.Instrument`
        Bands, pixel scale, zero points, exposures, noise.
    psf : dict of `~clustercnn.psf.PSF`, optional
        One per band; default: the built-in HST model.
    background : `~clustercnn.simulation.BackgroundFields`, optional
        Default: a pool of synthetic discs.
    negatives : dict, optional
        Kinds of negatives and their shares; default `~clustercnn.simulation.negatives.NEGATIVES`.
    rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
        The seed of the stream.
    shape : tuple of int
        ``(ny, nx)`` of the stamps.
    distance : `~astropy.units.Quantity`
        Distance of the galaxy; default that of M83 in the paper, 4.5 Mpc.
    positive_fraction : float
        Share of stamps with a cluster.
    depth_scatter : float
        Each band of each stamp is exposed longer or shorter by up to this many dex, for networks that must not know the depth.
    noise_correlation : float
        Each stamp's noise is correlated between neighbouring pixels by up to this much, see `Detector.expose`.

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
        distance=4.5 * u.Mpc,
        positive_fraction=0.6,
        depth_scatter=0.0,
        noise_correlation=0.0,
    ):
        if not 0.0 <= positive_fraction <= 1.0:
            raise ValueError(f"positive_fraction must lie in 0..1, not {positive_fraction}")
        self.space = space
        self.instrument = instrument
        self.shape = tuple(int(n) for n in shape)
        self.distance = positive_quantity(distance, u.Mpc, "distance")
        self.positive_fraction = positive_fraction
        self.depth_scatter = depth_scatter
        self.noise_correlation = noise_correlation
        self.negatives = dict(NEGATIVES if negatives is None else negatives)
        seed = _seed_sequence(rng)
        # the sequence is SeedSequence(seed, spawn_key=spawn_key)
        self.seed, self.spawn_key = _plain_integers(seed.entropy), _plain_integers(seed.spawn_key)
        backgrounds, samples = (np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, i)) for i in range(2))
        self._key = samples.generate_state(2, np.uint64)
        psf = band_psfs(psf, instrument)
        if background is None:
            background = BackgroundFields.discs(instrument, rng=backgrounds, distance=self.distance, psf=psf)
        if len(background.fields[0]) != len(instrument.bands):
            raise ValueError(
                f"background must have the {len(instrument.bands)} bands of the instrument, not {len(background.fields[0])}"
            )
        self.background = background
        self._clusters = ClusterScenes(space, instrument, star_rates(instrument, self.distance))
        self._smooth_light = SmoothLight(self._clusters.profiles)
        self._renderer = Renderer([psf[band] for band in instrument.bands], self.shape)
        self._detector = Detector.from_instrument(instrument)
        self._visibility = Visibility(self._detector, self.shape)

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
            "instrument": instrument.to_dict(),
            "parameter_space": self.space.to_dict(),
            "positive_fraction": self.positive_fraction,
            "negatives": self.negatives,
            "depth_scatter": self.depth_scatter,
            "noise_correlation": self.noise_correlation,
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
            negatives; ``is_cluster`` (size,) 0 or 1; ``visibility`` (size,), NaN for negatives.
        """
        if start < 0 or size < 1:
            raise ValueError(f"start must be 0 or more and size at least 1, not {start} and {size}")
        first = start - start % CHUNK
        chunks = [self._chunk(i) for i in range(first, start + size, CHUNK)]
        joined = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        return {name: values[start - first : start - first + size] for name, values in joined.items()}

    def _chunk(self, start):
        generators = [np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, i, 0])) for i in range(start, start + CHUNK)]
        scenes = [self._scene(rng) for rng in generators]
        background = torch.from_numpy(np.stack([self.background.stamp(self.shape, rng) for rng in generators]))
        light = render_scenes(scenes, self._renderer, self._smooth_light)
        rates = (light + background).numpy()
        depth, pixels = np.empty((CHUNK, rates.shape[1])), np.empty_like(rates)
        for i, rng in enumerate(generators):
            depth[i] = 10 ** (self.depth_scatter * rng.uniform(-1.0, 1.0, rates.shape[1]))
            correlation = self.noise_correlation * rng.random()
            pixels[i] = self._detector.scaled(depth[i]).expose(rates[i], rng, correlation)
        is_cluster = torch.tensor([scene.coordinates is not None for scene in scenes])
        nowhere = np.full(len(self.space), np.nan)
        coordinates = [nowhere if scene.coordinates is None else scene.coordinates for scene in scenes]
        return {
            "pixels": torch.from_numpy(pixels),
            "parameters": torch.from_numpy(np.array(coordinates, dtype=np.float32)),
            "is_cluster": is_cluster.float(),
            "visibility": torch.where(is_cluster, self._visibility(light, background, torch.from_numpy(depth).float()), torch.nan),
        }

    def _scene(self, rng):
        centre = tuple((n - 1) / 2 + jitter for n, jitter in zip(self.shape[::-1], rng.uniform(-JITTER, JITTER, 2), strict=True))
        if rng.random() < self.positive_fraction:
            scene = self._clusters.cluster(self.space.from_unit(rng.random(len(self.space))), centre, rng)
        else:
            shares = np.array(list(self.negatives.values()))
            kind = list(self.negatives)[rng.choice(len(shares), p=shares / shares.sum())]
            scene = draw_negative(kind, self._clusters, centre, rng)
            scene.coordinates = None
        scene.blur = BLUR * rng.random()
        return scene


def _seed_sequence(rng):
    if isinstance(rng, np.random.SeedSequence):
        return rng
    if isinstance(rng, np.random.Generator):
        return np.random.SeedSequence(int(rng.integers(2**63)))
    return np.random.SeedSequence(rng)


def _plain_integers(value):
    """Integers that JSON can hold, a list where there are several."""
    return [int(part) for part in value] if np.iterable(value) else int(value)
