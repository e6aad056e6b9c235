# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Encoders: the convolutional trunks that look at a stamp, and the branch that measures it through apertures."""

import math

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["CompactResNet", "PhotometryBranch", "ResNet50", "renormalize", "stretch"]


def renormalize(pixels):
    """
    Remove the level and the scale of every band of every stamp.

    The median is subtracted and the result divided by a robust rms (1.48 times the median absolute deviation), both of
    every second pixel along x and y, so that nothing of the photometric calibration is left. Where more than half of the
    pixels are equal (8-bit pictures) a thousandth of the plain rms about the median takes the place of the robust one.

    Parameters
    ----------
    pixels : `~torch.Tensor`
        Shape (n, band, ny, nx), any unit; NaN where unknown.

    Returns
    -------
    pixels : `~torch.Tensor`
        The same shape; invariant to ``scale * pixels + offset`` with a positive scale. A constant band becomes 0, NaN stays.

    Examples
    --------
    >>> import torch
    >>> from clustercnn.network.encoders import renormalize
    >>> stamp = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    >>> bool(torch.allclose(renormalize(7 * stamp + 3), renormalize(stamp), atol=1e-4))
    True
    """
    thin = pixels[..., ::2, ::2].flatten(2)
    median = thin.nanmedian(-1, keepdim=True).values
    thin = thin - median
    plain = thin.square().nanmean(-1, keepdim=True).sqrt()
    rms = torch.maximum(1.4826 * thin.abs().nanmedian(-1, keepdim=True).values, 1e-3 * plain)
    return (pixels - median[..., None]) / torch.where(rms > 0, rms, torch.ones_like(rms))[..., None]


def stretch(pixels):
    """
    Asinh of pixels, tempered so that the brightest clusters stay of order unity.

    Parameters
    ----------
    pixels : `~torch.Tensor`
        Of any shape, in units of about the noise of a pixel.

    Returns
    -------
    pixels : `~torch.Tensor`
        ``asinh(pixels) / ln(10)``.
    """
    # Written out: torch.asinh takes twenty times as long on a CPU, a tenth of a training step.
    size = pixels.abs()
    return (size + size.square() / (1 + (1 + size.square()).sqrt())).log1p_().copysign(pixels) / math.log(10)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with group normalisation and a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(y)))


class CompactResNet(nn.Module):
    """
    The default trunk: a residual network of 18 layers that a laptop can train.

    A 5x5 convolution with stride 2 and a max-pool bring 64x64 pixels to 16x16; four stages of two basic blocks follow, at
    16, 8, 4 and 2 pixels. What is left is pooled to 2x2 and read by one linear layer, so that the network can tell a
    source at the centre from one beside it. Normalised per sample (GroupNorm): the batch and the number of machines
    change nothing.

    Parameters
    ----------
    bands : int
        Number of input planes.
    widths : tuple of int
        Channels of the four stages, multiples of 8.
    features : int
        Length of the output.

    Notes
    -----
    Input (n, bands, ny, nx), stretched to order unity; output (n, features). 2.1 million parameters.

    Examples
    --------
    >>> import torch
    >>> from clustercnn.network.encoders import CompactResNet
    >>> CompactResNet(3)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 192])
    """

    def __init__(self, bands, widths=(32, 64, 128, 192), features=192):
        super().__init__()
        self.features = features
        self.stem = nn.Sequential(
            nn.Conv2d(bands, widths[0], 5, 2, 2, bias=False), nn.GroupNorm(8, widths[0]), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        blocks = []
        inputs = widths[0]
        for stage, width in enumerate(widths):
            blocks += [BasicBlock(inputs, width, 1 if stage == 0 else 2), BasicBlock(width, width, 1)]
            inputs = width
        self.stages = nn.Sequential(*blocks)
        self.read = nn.Linear(4 * inputs, features)

    def forward(self, x):
        x = self.stages(self.stem(x))
        return F.silu(self.read(F.adaptive_avg_pool2d(x, 2).flatten(1)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch normalisation and a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        inner = outputs // 4
        self.body = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.body(x))


class ResNet50(nn.Module):
    """
    The trunk of Bialopetravicius & Narbutis (2020, A&A 633, A148), Table 1.

    Input 64x64; 7x7 convolution of 64 channels at stride 1; 3x3 max-pool to 32x32; stages of 3, 4, 6 and 3 bottlenecks with
    128, 256, 512 and 1024 output channels at 32, 16, 8 and 4 pixels; global average pool; fully connected layer of 1024.

    Parameters
    ----------
    bands : int
        Number of input planes.

    Notes
    -----
    Input (n, bands, ny, nx); output (n, 1024). Batch normalisation, as in the paper.
    """

    features = 1024

    def __init__(self, bands):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(bands, 64, 7, 1, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        blocks = []
        inputs = 64
        for stage, (outputs, depth) in enumerate(zip((128, 256, 512, 1024), (3, 4, 6, 3), strict=True)):
            for block in range(depth):
                blocks.append(Bottleneck(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                inputs = outputs
        self.stages = nn.Sequential(*blocks)
        self.read = nn.Linear(inputs, self.features)

    def forward(self, x):
        return F.relu(self.read(self.stages(self.stem(x)).mean((2, 3))))


class PhotometryBranch(nn.Module):
    """
    Aperture photometry as a second look at the same pixels.

    Fluxes within 1.5, 3, 5 and 10 pixels of the stamp's centre above the local sky (those that fit in the stamp), the sky itself and
    its rms, in every band, each stretched by asinh; and colours, the differences of the stretched fluxes of neighbouring bands. A small
    network reads them. It is told colours because it is slow to learn small differences of large numbers. The sky is the median of a
    ring between 0.6 and 0.9 of the half-width of the stamp (19 to 29 pixels of 64), its rms 1.48 times the median absolute deviation.

    Parameters
    ----------
    bands : int
        Number of bands.
    shape : tuple of int
        Shape of the stamps (ny, nx), at least 16 pixels each.
    features : int
        Length of the output.

    Notes
    -----
    Input: (n, bands, ny, nx), linear in flux, in units of about the noise of a pixel, and ``present``, (n, bands), 1 for a band that is
    known and 0 for one that is missing, whose colours are 0 (all of them known by default); output (n, features). Apertures are
    products with one mask matrix (pixels at the rim count by the part inside); the cost is a few per cent of the trunk's.

    Examples
    --------
    >>> import torch
    >>> from clustercnn.network.encoders import PhotometryBranch
    >>> branch = PhotometryBranch(1, (64, 64))
    >>> branch.measure(torch.ones(1, 1, 64, 64)).round().int().tolist()
    [[[0, 0, 0, 0, 1, 0]]]
    """

    def __init__(self, bands, shape, features=128):
        super().__init__()
        if min(shape) < 16:
            raise ValueError(f"shape must be at least 16 pixels along each axis, for apertures and a ring of sky, not {tuple(shape)}")
        self.features = features
        self.radii = [radius for radius in (1.5, 3.0, 5.0, 10.0) if radius < min(shape) / 2]
        masks = torch.stack([_circle(shape, radius) for radius in self.radii])
        self.register_buffer("masks", masks.flatten(1).T.contiguous(), persistent=False)
        self.register_buffer("areas", masks.sum((1, 2)), persistent=False)
        # Every second pixel of the ring is enough for a median and halves its cost.
        ring = (_circle(shape, 0.45 * min(shape)) > 0.5) & (_circle(shape, 0.3 * min(shape)) < 0.5)
        self.register_buffer("ring", ring.flatten().nonzero().flatten()[::2], persistent=False)
        measures = bands * (len(self.radii) + 2) + (bands - 1) * len(self.radii)
        self.read = nn.Sequential(nn.Linear(measures, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU())

    def measure(self, pixels):
        """Flux above the sky in each aperture, sky and its rms per pixel, shape (n, band, 6), in the unit of the pixels."""
        flat = pixels.flatten(2)
        ring = flat[..., self.ring]
        sky = ring.median(-1, keepdim=True).values
        rms = 1.4826 * (ring - sky).abs().median(-1, keepdim=True).values
        return torch.cat((flat @ self.masks - sky * self.areas, sky, rms), -1)

    def stretched(self, pixels):
        """The asinh of what `measure` gives, shape (n, band, 6), of fluxes divided by the root of the area of their aperture."""
        measured = self.measure(pixels)
        n = len(self.radii)
        # Divided by the root of the area an empty aperture is of order one, whatever its size.
        return torch.asinh(torch.cat((measured[..., :n] / self.areas.sqrt(), measured[..., n:]), -1))

    def forward(self, pixels, present=None):
        bright = self.stretched(pixels)
        n = len(self.radii)
        colours = bright[:, 1:, :n] - bright[:, :-1, :n]
        if present is not None:
            colours = colours * (present[:, 1:] * present[:, :-1])[..., None]
        # Brightness spans several units of the asinh and colours a fraction of one: weighed to be of the same size.
        return self.read(torch.cat((0.5 * bright.flatten(1), 1.5 * colours.flatten(1)), 1))


def _circle(shape, radius, subsampling=10):
    """Fraction of every pixel of a stamp that lies within ``radius`` of its centre, shape (ny, nx)."""
    y, x = ((torch.arange(n * subsampling) + 0.5) / subsampling - n / 2 for n in shape)
    inside = (torch.hypot(y[:, None], x[None, :]) < radius).float()
    return F.avg_pool2d(inside[None], subsampling)[0]
