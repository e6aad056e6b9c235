# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The commented file that ``clustercnn init`` writes, with what the images tell filled in."""

import json
import os
import re
from pathlib import Path

from clustercnn.images import MultiBandImage
from clustercnn.instruments import Instrument
from clustercnn.psf import builtin_psf

__all__ = ["run_template"]

TEMPLATE = """\
# A network for a galaxy of your own. Paths are relative to this file; quantities are text with a unit.
#     clustercnn train    --config {file} --out {stem}.safetensors
#     clustercnn validate --config {file} --model {stem}.safetensors
#     clustercnn predict  --config {file} --model {stem}.safetensors --out {stem}.ecsv
seed = 1

[images]  # one image per band, all on one pixel grid, sky-subtracted, the light of the galaxy left in
{images}

[instrument]
{instrument}

[psf]  # {psf_note}
{psf}
# oversampling = 4             # values of the PSF per pixel; {{band = number, ...}} where the bands differ
# pixel_integrated = false     # true where the response of the pixel is in it, as in photutils' effective PSFs

[mocks]
{mocks}
# extinction_law = "G23"       # of the dust; without it F99, which ends at 3.3 um
# positive_fraction = 0.6      # share of the stamps with a cluster
# negatives = {{field = 1, star = 1, blend = 0.5, off_centre = 0.5, galaxy = 0, association = 0}}

[network]
{network}

[training]
{training}
# batch_size = 128
# patience = 5                 # stop after so many looks at the validation mocks that bring nothing better
"""

DISC = """\
background = "disc"            # synthetic discs; "mosaic" takes the images above
neighbour_fraction = 0.2       # of the stamps have another cluster 4 to 24 pixels from the centre
depth_scatter = 0.3            # dex: exposures of each band are up to twice as long or as short, and the network is told
noise_correlation = 0.14       # drizzled mosaics pass on about so much of a pixel's noise to its neighbours
psf_scatter = 0.2              # PSFs of three quarters to four thirds of the variance, and the network is told that of the data"""

MOSAIC = """\
background = "mosaic"          # the images above; "disc" for synthetic discs
# avoid = "known.ecsv"         # table with x_centroid, y_centroid (pixels) of clusters that are known already
# avoid_radius = "8 pix"       # that the middles of stamps keep from them"""

FINE_TUNING = """\
start = "m83"                  # goes on from this network: name of a pretrained one, or a model file with as many bands"""

FROM_SCRATCH = """\
encoder = "compact"            # "resnet50" is the paper's
head = "flow"                  # "grid" is the paper's
photometry = true              # aperture photometry as a second input
scaling = "fixed"              # "renormalized" for images whose calibration is not to be trusted
conditions = true              # the network is told what is missing, how deep the bands are, how sure the zero points"""


def run_template(path, images=None, distance=None):
    """
    A commented TOML file that `~clustercnn.training_run.TrainingRun` reads.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Where the file is going to be; nothing is written.
    images : dict, optional
        Band -> path of its FITS image. Default: the template is for simulated images of M83's depth.
    distance : `~astropy.units.Quantity`, optional
        Of the galaxy. Default: 4.5 Mpc where there are no images, else left for you to fill in.

    Returns
    -------
    text : str
        The file.
    complaint : str or None
        What the images do not tell, and how to tell it; or what is wrong with them.

    Raises
    ------
    OSError
        If an image is not there.

    Examples
    --------
    >>> from clustercnn.run_template import run_template
    >>> text, complaint = run_template("run.toml")
    >>> print(text[text.index("[instrument]"):].splitlines()[1])
    distance = "4.5 Mpc"
    """
    path = Path(path)
    stated, complaint = None, None
    if images:
        try:
            opened = MultiBandImage.read(images)
            stated = Instrument.from_header({band: opened[band] for band in opened.bands})
        except ValueError as error:
            complaint = str(error)
    bands = tuple(images or ("F336W", "F438W", "F814W"))
    if distance is not None:
        distance = f'distance = "{_text(distance)}"'
    elif images:
        distance = '# distance = "7.2 Mpc"       # of the galaxy: fill it in'
    else:
        distance = 'distance = "4.5 Mpc"'
    fine_tuning = bool(images) and len(bands) == 3
    text = TEMPLATE.format(
        file=path.name,
        stem=path.stem,
        images=_images(images, bands, path.parent),
        instrument="\n".join([distance, *_instrument(images, bands, stated, complaint)]),
        psf_note=_psf_note(stated),
        psf="\n".join(f'# {_key(band)} = "psf_{band.lower()}.fits"' for band in bands),
        mocks=MOSAIC if images else DISC,
        network=FINE_TUNING if fine_tuning else FROM_SCRATCH,
        training=_training(300_000, 2.5e-4) if fine_tuning else _training(3_000_000, 2.5e-3),
    )
    return text, complaint


def _psf_note(stated):
    """Whether the instrument of the headers has a built-in PSF."""
    try:
        if stated is not None:
            builtin_psf(stated)
    except ValueError:
        return "this camera has no built-in model: give one for each band"
    return "without entries: the built-in model of HST/WFC3/UVIS"


def _images(images, bands, folder):
    if not images:
        lines = [f'# {band} = "{band.lower()}_drz.fits"' for band in bands]
    else:
        paths = {band: Path(os.path.relpath(name, folder)).as_posix() for band, name in images.items()}
        lines = [f"{_key(band)} = {json.dumps(name)}" for band, name in paths.items()]
    return "\n".join([*lines, '# unit = "electron / s"        # of images whose headers state none'])


def _key(band):
    """A band's name as TOML and JSON both write it."""
    return band if re.fullmatch(r"[\w-]+", band, re.ASCII) else json.dumps(band)


def _instrument(images, bands, stated, complaint):
    """What the headers say, as comments to change; or examples of it."""
    if not images:
        yield 'name = "HST/WFC3/UVIS/M83"     # a preset; without a name the headers of the images tell'
        stated = Instrument.from_name("HST/WFC3/UVIS/M83")
        yield "# That is:"
    elif stated is None:
        yield f"# The images do not tell all: {complaint}"
        yield "# What is given here comes before what they say; for example:"
        yield '# name = "HST/WFC3/UVIS"       # a preset of a camera, or'
        yield f"# passbands = {_per_band({band: f'WFC3_UVIS_{band}' for band in bands})}"
        yield '# pixel_scale = "0.04 arcsec / pix"'
        for name, example in (("exposure", "2000 s"), ("zero_points", "24.5 mag")):
            yield f"# {name} = {_per_band({band: example for band in bands})}"
        return
    else:
        yield "# The headers say what follows. What is given here comes before them: look at the exposures above all, since EXPTIME of a"
        yield "# mosaic of several pointings may be the sum of all of them."
    yield f'# pixel_scale = "{_text(stated.pixel_scale)}"'
    for name, get, comment in (
        ("exposure", stated.exposure, ""),
        ("zero_points", stated.zero_point, "  # Vega magnitude of 1 electron / s"),
        ("gain", stated.gain, ""),
        ("read_noise", stated.read_noise, "  # per exposure"),
    ):
        yield f"# {name} = {_per_band({band: _text(get(band)) for band in bands})}{comment}"
    numbers = ", ".join(f"{_key(band)} = {stated.n_exposures(band)}" for band in bands)
    yield f"# n_exposures = {{{numbers}}}"


def _per_band(texts):
    return "{" + ", ".join(f'{_key(band)} = "{text}"' for band, text in texts.items()) + "}"


def _text(quantity):
    return f"{quantity.value:.6g} {quantity.unit}"


def _training(samples, learning_rate):
    return f"samples = {samples:_}\nlearning_rate = {learning_rate:g}"
