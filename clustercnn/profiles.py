# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Where a cluster's light sits: EFF, King and Plummer profiles, in units of the half-light radius."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
from astropy import units as u
from astropy.modeling import Fittable2DModel
from astropy.modeling import Parameter as ModelParameter
from scipy.optimize import brentq
from scipy.special import gamma as gamma_function
from scipy.special import j0, kv

__all__ = [
    "EFF2D",
    "EFFProfile",
    "King2D",
    "KingProfile",
    "Plummer2D",
    "PlummerProfile",
    "Profile",
    "elliptical",
    "get_profile",
]


class Profile(ABC):
    """
    A circular surface-density profile with unit light and unit half-light radius.

    All radii are plain numbers in units of the half-light radius, which is that of the truncated profile. Light is
    normalised: ``enclosed(truncation)`` is 1. Subclasses give the shape in units of their own scale radius.

    A profile so says what its radii are for any half-light radius, a length or an angle: the core radius is
    ``profile.core_radius * half_light_radius``, and a published core radius makes a half-light radius of
    ``core_radius / profile.core_radius``; likewise with `scale`.
    """

    @property
    @abstractmethod
    def scale(self):
        """The scale radius of the profile's formula (a of EFF and Plummer, King's core radius), in half-light radii."""

    @property
    @abstractmethod
    def core_radius(self):
        """Where the surface density is half its central value, in half-light radii."""

    @abstractmethod
    def _shape(self, s):
        """Surface density at s scale radii, times any constant."""

    @abstractmethod
    def _growth(self, s):
        """Integral of ``2 pi s _shape(s)`` from the centre to s scale radii."""

    @property
    def _edge(self):
        """The truncation radius in scale radii."""
        return self.truncation / self.scale

    def surface_density(self, r):
        """
        Light per unit area.

        Parameters
        ----------
        r : array_like
            Radius in half-light radii.

        Returns
        -------
        density : `~numpy.ndarray`
            Fraction of the total light per squared half-light radius; 0 beyond the truncation.
        """
        r = np.abs(_radii(r))
        norm = self.scale**2 * self._growth(self._edge)
        s = np.minimum(r / self.scale, self._edge)
        return np.where(r <= self.truncation, self._shape(s) / norm, 0.0)

    def enclosed(self, r):
        """
        The fraction of the light within a radius.

        Parameters
        ----------
        r : array_like
            Radius in half-light radii.

        Returns
        -------
        fraction : `~numpy.ndarray`
            In [0, 1].
        """
        s = np.clip(_radii(r) / self.scale, 0, self._edge)
        return self._growth(s) / self._growth(self._edge)

    def radius(self, q):
        """
        The radius that encloses a fraction of the light: the inverse of `enclosed`.

        Parameters
        ----------
        q : array_like
            Fraction in [0, 1].

        Returns
        -------
        r : `~numpy.ndarray`
            Radius in half-light radii.
        """
        q = _fraction(q)
        low, high = np.zeros_like(q), np.full_like(q, self.truncation)
        for _ in range(55):  # bisection: 8 / 2**55 is below the rounding of a float
            middle = (low + high) / 2
            inside = self.enclosed(middle) < q
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return np.where(q >= 1, self.truncation, (low + high) / 2)

    def transform(self, k):
        """
        The profile's two-dimensional Fourier transform (it is real and circular).

        Parameters
        ----------
        k : array_like
            Spatial frequency in cycles per half-light radius.

        Returns
        -------
        amplitude : `~numpy.ndarray`
            1 at ``k = 0``; accurate to 1e-9 or so. The cost grows with the largest ``k``: tabulate it once.
        """
        k = np.abs(np.asarray(k, dtype=float))
        # r = scale * sinh(t) resolves the core and the outskirts alike; panels short enough that none spans more
        # than one oscillation of the Bessel function, even at the edge and for the largest frequency.
        end = np.arcsinh(self._edge)
        panels = 8 + int(np.ceil(k.max(initial=0) * self.truncation * end))
        nodes, weights = np.polynomial.legendre.leggauss(12)
        edges = np.linspace(0, end, panels + 1)
        half = np.diff(edges)[:, None] / 2
        t = (edges[:-1, None] + half * (1 + nodes)).ravel()
        s = np.sinh(t)
        light = (half * weights).ravel() * 2 * np.pi * s * np.cosh(t) * self._shape(s)
        light /= light.sum()
        flat = k.ravel()
        amplitude = np.empty_like(flat)
        step = max(1, 2_000_000 // t.size)  # bounds the memory
        for i in range(0, flat.size, step):
            amplitude[i : i + step] = j0(2 * np.pi * self.scale * flat[i : i + step, None] * s) @ light
        return amplitude.reshape(k.shape)

    def sample(self, n, rng=None):
        """
        Draw positions of stars.

        Parameters
        ----------
        n : int
            How many.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`, optional
            Source of randomness.

        Returns
        -------
        x, y : `~numpy.ndarray`
            Offsets from the centre in half-light radii.
        """
        rng = np.random.default_rng(rng)
        r = self.radius(rng.random(n))
        angle = rng.uniform(0, 2 * np.pi, n)
        return r * np.cos(angle), r * np.sin(angle)


class _PowerLaw(Profile):
    """What EFF and Plummer share, ``(1 + r^2 / a^2)^(-gamma / 2)``."""

    def __post_init__(self):
        if not (np.isscalar(self.truncation) and self.truncation >= 1.5):
            raise ValueError(
                f"truncation must be at least 1.5 half-light radii, or numpy.inf for none, not {self.truncation}"
            )
        # the light of a pure power law within 1 of T half-light radii is T^(gamma - 2): more needs no core
        lowest = 2 - np.log(2) / np.log(self.truncation)
        if not lowest < self.gamma < 100:
            raise ValueError(
                f"gamma must lie in ({lowest:.3f}, 100) for a truncation of {self.truncation}, not {self.gamma}"
            )

    @cached_property
    def scale(self):
        """The radius a of the formula, in half-light radii."""
        return _eff_scale(float(self.gamma), float(self.truncation))

    @property
    def core_radius(self):
        """Where the surface density is half its central value, in half-light radii."""
        return self.scale * np.sqrt(2 ** (2 / self.gamma) - 1)

    def _shape(self, s):
        return (1 + s**2) ** (-self.gamma / 2)

    def _growth(self, s):
        return np.pi * _eff_growth(s, self.gamma)

    def radius(self, q):
        q = _fraction(q)
        p = 1 - self.gamma / 2
        g = q * _eff_growth(self._edge, self.gamma)
        with np.errstate(divide="ignore", over="ignore"):  # all the light of an endless profile
            return self.scale * np.sqrt(np.expm1(np.log1p(np.maximum(p * g, -1)) / p if p else g))

    def transform(self, k):
        if np.isfinite(self.truncation):
            return super().transform(k)
        order, z = self.gamma / 2 - 1, 2 * np.pi * self.scale * np.abs(np.asarray(k, dtype=float))
        with np.errstate(all="ignore"):
            amplitude = 2 * (z / 2) ** order * kv(order, z) / gamma_function(order)
        return np.where(np.isfinite(amplitude), amplitude, 1.0)  # 0 times infinity, towards z = 0


@dataclass(frozen=True)
class EFFProfile(_PowerLaw):
    r"""
    The profile of young clusters by Elson, Fall & Freeman (1987): ``(1 + r^2 / a^2)^(-gamma / 2)``, truncated.

    Parameters
    ----------
    gamma : float
        Outer slope of the surface density. Up to 2 the light of the whole profile is infinite, and there must be a
        truncation; then the slope must still be steep enough that half of the light lies within one half-light radius (1.667
        for the default truncation).
    truncation : float
        Radius beyond which there is no light, in half-light radii (of the truncated profile); `numpy.inf` for none.

    Notes
    -----
    Without truncation the half-light radius is :math:`a \sqrt{2^{2 / (\gamma - 2)} - 1}`, as published sizes have it; a
    truncated profile has a smaller one for the same a: for gamma = 2.6 and truncation at 8 half-light radii 2.20 a, not 3.01 a.

    References
    ----------
    Elson, Fall & Freeman 1987, ApJ 323, 54.

    Examples
    --------
    >>> from clustercnn.profiles import EFFProfile
    >>> profile = EFFProfile(gamma=2.6)
    >>> print(f"{profile.enclosed(1):.3f} {profile.enclosed(8):.3f} {profile.radius(0.5):.3f}")
    0.500 1.000 1.000
    >>> print(f"{1 / profile.scale:.2f} {1 / EFFProfile(gamma=2.6, truncation=float('inf')).scale:.2f}")
    2.20 3.01
    """

    gamma: float = 2.6
    truncation: float = 8.0


@dataclass(frozen=True)
class PlummerProfile(_PowerLaw):
    """
    The Plummer (1911) sphere in projection, ``(1 + r^2 / a^2)^-2``, truncated: EFF with gamma = 4.

    Parameters
    ----------
    truncation : float
        Radius beyond which there is no light, in half-light radii; `numpy.inf` for none.

    References
    ----------
    Plummer 1911, MNRAS 71, 460.

    Examples
    --------
    >>> from clustercnn.profiles import PlummerProfile
    >>> print(f"{PlummerProfile().enclosed(1):.3f}")
    0.500
    """

    truncation: float = 8.0
    gamma: ClassVar[float] = 4.0


@dataclass(frozen=True)
class KingProfile(Profile):
    """
    The empirical profile of King (1962), which ends at its tidal radius.

    Parameters
    ----------
    concentration : float
        ``log10(r_tidal / r_core)``, in (0, 4]; r_core is the `scale` of the formula, which the true core radius approaches for
        high concentrations.

    References
    ----------
    King 1962, AJ 67, 471.

    Examples
    --------
    >>> from clustercnn.profiles import KingProfile
    >>> print(f"{KingProfile(concentration=1.5).enclosed(1):.3f}")
    0.500
    """

    concentration: float = 1.5

    def __post_init__(self):
        if not 0 < self.concentration <= 4:
            raise ValueError(f"concentration must be log10(r_tidal / r_core) in (0, 4], not {self.concentration}")

    @property
    def _edge(self):
        return 10.0**self.concentration

    @cached_property
    def scale(self):
        """The core radius in half-light radii."""
        half = self._growth(self._edge) / 2
        return 1 / brentq(lambda s: self._growth(s) - half, 0, self._edge, xtol=1e-14, rtol=1e-14)

    @property
    def core_radius(self):
        """Where the surface density is half its central value, in half-light radii."""
        last = 1 / np.sqrt(1 + self._edge**2)
        return self.scale * np.sqrt((last + (1 - last) / np.sqrt(2)) ** -2 - 1)

    @property
    def truncation(self):
        """The tidal radius in half-light radii."""
        return self._edge * self.scale

    def _shape(self, s):
        return (1 / np.sqrt(1 + s**2) - 1 / np.sqrt(1 + self._edge**2)) ** 2

    def _growth(self, s):
        x, edge = s**2, 1 + self._edge**2
        return np.pi * (np.log1p(x) - 4 * (np.sqrt(1 + x) - 1) / np.sqrt(edge) + x / edge)


def get_profile(kind="eff", **parameters):
    """
    A profile by its name.

    Parameters
    ----------
    kind : {'eff', 'king', 'plummer'} or `Profile`
        The name; a profile is passed through.
    **parameters
        Those of `EFFProfile`, `KingProfile` or `PlummerProfile`.

    Returns
    -------
    profile : `Profile`

    Examples
    --------
    >>> from clustercnn.profiles import get_profile
    >>> get_profile("eff", gamma=3.0)
    EFFProfile(gamma=3.0, truncation=8.0)
    """
    if isinstance(kind, Profile):
        if parameters:
            raise TypeError(f"{sorted(parameters)} go with the name of a profile, not with {kind!r}, which has its own")
        return kind
    if kind not in _PROFILES:
        raise ValueError(f"profile must be one of {sorted(_PROFILES)} or a Profile, not {kind!r}")
    return _PROFILES[kind](**parameters)


def elliptical(x, y, ellipticity, position_angle):
    """
    Turn offsets of a circular profile into those of an elliptical one of the same ``sqrt(a b)``.

    Parameters
    ----------
    x, y : array_like
        Offsets from the centre, any unit.
    ellipticity : float
        ``1 - b / a``, in [0, 1).
    position_angle : float or `~astropy.units.Quantity`
        Of the major axis, counter-clockwise from +x; a plain number is in radian.

    Returns
    -------
    x, y : `~numpy.ndarray`
        Offsets in the same unit; areas are conserved.

    Examples
    --------
    >>> from clustercnn.profiles import elliptical
    >>> x, y = elliptical(1.0, 1.0, ellipticity=0.75, position_angle=0.0)
    >>> print(x, y)
    2.0 0.5
    """
    if not 0 <= ellipticity < 1:
        raise ValueError(f"ellipticity must be 1 - b/a in [0, 1), not {ellipticity}")
    if np.ndim(position_angle) or not np.isfinite(position_angle):
        raise ValueError(f"position_angle must be one finite angle, not {position_angle}")
    stretch = np.sqrt(1 - ellipticity)
    major, minor = np.asanyarray(x) / stretch, np.asanyarray(y) * stretch
    cos, sin = np.cos(position_angle), np.sin(position_angle)
    return major * cos - minor * sin, major * sin + minor * cos


def _radii(r):
    if isinstance(r, u.Quantity):
        if not r.unit.is_equivalent(u.dimensionless_unscaled):
            raise u.UnitsError(f"r must be in half-light radii, not in '{r.unit}': divide by the half-light radius")
        r = r.to_value(u.dimensionless_unscaled)
    return np.asarray(r, dtype=float)


def _fraction(q):
    q = np.asarray(q, dtype=float)
    if np.any(~((q >= 0) & (q <= 1))):
        raise ValueError("q must be a fraction of the light in [0, 1]")
    return q


def _eff_growth(s, gamma):
    """Light of the EFF profile within s scale radii, over pi; its limit at gamma = 2 is a logarithm."""
    p, log = 1 - gamma / 2, np.log1p(np.square(s))
    return np.expm1(p * log) / p if p else log


@lru_cache(maxsize=1024)
def _eff_scale(gamma, truncation):
    """Scale radius that puts half of the light of the truncated EFF profile within 1."""
    too_flat = ValueError(f"gamma = {gamma} is too flat for a truncation of {truncation} half-light radii")
    if truncation == np.inf:
        exponent = 2 * np.log(2) / (gamma - 2)
        if exponent > 600:  # the next squares overflow
            raise too_flat
        return float(1 / np.sqrt(np.expm1(exponent)))

    def excess(log_scale):
        scale = np.exp(log_scale)
        return _eff_growth(1 / scale, gamma) / _eff_growth(truncation / scale, gamma) - 0.5

    # The upper end is almost a uniform disc. Next to the flattest slope the core all but vanishes.
    low = -10.0
    while excess(low) < 0:
        low *= 2
        if low < -300:
            raise too_flat
    return float(np.exp(brentq(excess, low, 5.0, xtol=1e-14, rtol=1e-14)))


_PROFILES = {"eff": EFFProfile, "king": KingProfile, "plummer": PlummerProfile}


def _plane_parameters():
    """Fresh parameters that the three models share; astropy finds them in the body of each class only."""
    return (
        ModelParameter(default=1.0, description="Integral over the plane"),
        ModelParameter(default=0.0, description="Centre, x"),
        ModelParameter(default=0.0, description="Centre, y"),
        ModelParameter(default=1.0, bounds=(1e-6, None), description="sqrt(a b) of the half-light ellipse"),
        ModelParameter(default=0.0, bounds=(0, 0.99), description="1 - b / a"),
        ModelParameter(default=0.0, description="Major axis, counter-clockwise from +x, radian"),
    )


def _shared(values, name):
    """The one shape of a set of models."""
    first, *others = np.unique(values)
    if others:
        raise ValueError(f"{name} must be the same for all models of a set, not {np.ravel(values)}: make a model for each")
    return float(first)


class _Profile2D(Fittable2DModel):
    """What the three models share: the elliptical radius, the units, the drawing of stars."""

    def sample(self, n, rng=None):
        """
        Draw positions of stars.

        Parameters
        ----------
        n : int
            How many.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`, optional
            Source of randomness.

        Returns
        -------
        x, y : `~numpy.ndarray` or `~astropy.units.Quantity`
            In the unit of the half-light radius, a length, an angle or none.
        """
        size, theta = (p.value if p.unit is None else p.quantity for p in (self.half_light_radius, self.theta))
        offsets = elliptical(*self.profile.sample(n, rng), self.ellipticity.value, theta)
        centre = (p.value if p.unit is None else p.quantity for p in (self.x_0, self.y_0))
        return tuple(start + size * offset for start, offset in zip(centre, offsets, strict=True))

    @property
    def input_units(self):
        return (
            None
            if self.x_0.input_unit is None
            else {self.inputs[0]: self.x_0.input_unit, self.inputs[1]: self.y_0.input_unit}
        )

    def _parameter_units_for_data_units(self, inputs_unit, outputs_unit):
        unit = inputs_unit[self.inputs[0]]
        length = dict.fromkeys(("x_0", "y_0", "half_light_radius"), unit)
        return {**length, "flux": outputs_unit[self.outputs[0]] * unit**2, "theta": u.rad}

    @staticmethod
    def _density(profile, x, y, flux, x_0, y_0, half_light_radius, ellipticity, theta):
        cos, sin, stretch = np.cos(theta), np.sin(theta), np.sqrt(1 - ellipticity)
        dx, dy = x - x_0, y - y_0
        r = np.hypot((dx * cos + dy * sin) * stretch, (dy * cos - dx * sin) / stretch) / half_light_radius
        return flux / half_light_radius**2 * profile.surface_density(r)


class EFF2D(_Profile2D):
    """
    An EFF profile in the plane, to fit or to draw: see `EFFProfile`.

    Parameters
    ----------
    flux : float or `~astropy.units.Quantity`
        Total light; the surface density is in units of it per squared unit of length.
    x_0, y_0 : float or `~astropy.units.Quantity`
        Centre.
    half_light_radius : float or `~astropy.units.Quantity`
        Of the truncated profile; ``sqrt(a b)`` for an ellipse.
    ellipticity : float
        ``1 - b / a``.
    theta : float or `~astropy.units.Quantity`
        Position angle of the major axis, counter-clockwise from +x; radian.
    gamma : float
        Outer slope, in [1.7, 50].

    Examples
    --------
    >>> from clustercnn.profiles import EFF2D
    >>> model = EFF2D(flux=100, half_light_radius=3, gamma=2.6)
    >>> bool(model(0, 0) > model(1, 0) > model(30, 0) == 0)
    True

    Parameters may have units, lengths or angles:

    >>> from astropy import units as u
    >>> model = EFF2D(half_light_radius=0.12 * u.arcsec, ellipticity=0.3, theta=30 * u.deg)
    >>> x, y = model.sample(1000, rng=0)
    >>> x.unit
    Unit("arcsec")
    """

    flux, x_0, y_0, half_light_radius, ellipticity, theta = _plane_parameters()
    gamma = ModelParameter(default=2.6, bounds=(1.7, 50), description="Outer slope")

    @property
    def profile(self):
        """The circular profile, in units of the half-light radius."""
        return EFFProfile(gamma=float(self.gamma.value))

    @classmethod
    def evaluate(cls, x, y, flux, x_0, y_0, half_light_radius, ellipticity, theta, gamma):
        """Surface density at x, y."""
        profile = EFFProfile(gamma=_shared(gamma, "gamma"))
        return cls._density(profile, x, y, flux, x_0, y_0, half_light_radius, ellipticity, theta)


class Plummer2D(_Profile2D):
    """
    A Plummer profile in the plane, with the parameters of `EFF2D` except gamma.

    Examples
    --------
    >>> from clustercnn.profiles import Plummer2D
    >>> round(float(Plummer2D(flux=2, half_light_radius=3).profile.enclosed(1)), 3)
    0.5
    """

    flux, x_0, y_0, half_light_radius, ellipticity, theta = _plane_parameters()

    @property
    def profile(self):
        """The circular profile, in units of the half-light radius."""
        return PlummerProfile()

    @classmethod
    def evaluate(cls, x, y, flux, x_0, y_0, half_light_radius, ellipticity, theta):
        """Surface density at x, y."""
        return cls._density(PlummerProfile(), x, y, flux, x_0, y_0, half_light_radius, ellipticity, theta)


class King2D(_Profile2D):
    """
    A King (1962) profile in the plane, with the parameters of `EFF2D` and a concentration instead of gamma.

    Examples
    --------
    >>> from clustercnn.profiles import King2D
    >>> round(float(King2D(concentration=1.2).profile.enclosed(1)), 3)
    0.5
    """

    flux, x_0, y_0, half_light_radius, ellipticity, theta = _plane_parameters()
    concentration = ModelParameter(default=1.5, bounds=(0.05, 4), description="log10(r_tidal / r_core)")

    @property
    def profile(self):
        """The circular profile, in units of the half-light radius."""
        return KingProfile(concentration=float(self.concentration.value))

    @classmethod
    def evaluate(cls, x, y, flux, x_0, y_0, half_light_radius, ellipticity, theta, concentration):
        """Surface density at x, y."""
        profile = KingProfile(concentration=_shared(concentration, "concentration"))
        return cls._density(profile, x, y, flux, x_0, y_0, half_light_radius, ellipticity, theta)
