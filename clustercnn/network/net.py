# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""ClusterNet: the network as its user sees it, with units, checks and a file of its own."""

import copy
import datetime
import platform
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning
from scipy.special import ndtr
from tqdm import tqdm

from clustercnn.estimate import FLAGS, ClusterEstimate
from clustercnn.images import pixel_shape
from clustercnn.parameters import ParameterSpace, as_quantity
from clustercnn.psf_powers import NODES
from clustercnn.stamps import depth_covered, log_depth, log_psf_powers, psf_covered, read_stamps

from .augmentation import ZERO_POINT_ERROR, Augmentation
from .calibrating import LEAST, calibrate_module
from .device import as_device
from .domain import OUT_OF_DOMAIN, Domain, kinds_of, look
from .holes import filled, flagged
from .modelfile import read_file, write_file
from .module import ENCODERS, HEADS, SCALINGS, ClusterModule, has_own_psf
from .training import train

__all__ = ["ClusterNet"]

# Electrons per second and pixel at which the stretch turns from linear to logarithmic: about the noise at the depth of M83.
SCALES = {"F336W": 0.01, "F438W": 0.02, "F814W": 0.05}
UNIT = u.electron / u.s


class ClusterNet:
    """
    A network that turns stamps of star clusters into posteriors of their parameters.

    Parameters
    ----------
    bands : sequence of str
        Names of the bands, in the order of the input planes.
    encoder : {'compact', 'resnet50'}
        The convolutional trunk; see `CompactResNet` and `ResNet50`.
    head : {'flow', 'grid'}
        The posterior; see `FlowHead` and `GridHead`.
    photometry : bool
        Whether aperture photometry of the stamp is a second input; see `PhotometryBranch`.
    scaling : {'fixed', 'renormalized'}
        ``'fixed'`` divides electron/s by a constant per band and keeps the calibration. ``'renormalized'`` removes level
        and scale of every band of every stamp (`renormalize`): any unit and zero point will do, at the cost of twice the
        errors in age and A_V.
    conditions : bool
        Whether the network is told what it looks at: which pixels and bands there are and, with fixed scaling, how deep each band is,
        how uncertain the zero points are and which PSF there is. It then answers for incomplete and imperfect stamps, for which `fit`
        trains it by `Augmentation`.
    scales : dict, optional
        Electron/s per pixel of each band at which the asinh stretch turns over. Default: 0.01, 0.02, 0.05 for F336W,
        F438W, F814W; for other bands the median robust rms of the first mocks that `fit` sees.
    space : `~clustercnn.parameters.ParameterSpace`, optional
        The box of parameters. Default: that of the paper.
    shape : tuple of int
        Shape of the stamps (ny, nx).
    rng : int
        Seed of the initial weights.

    Examples
    --------
    >>> from clustercnn.network import ClusterNet
    >>> ClusterNet(bands=("F336W", "F438W", "F814W"))
    <ClusterNet F336W F438W F814W; compact encoder, flow head, photometry, conditions, fixed scaling; 2.5 M parameters; not trained>
    """

    def __init__(
        self,
        bands=("F336W", "F438W", "F814W"),
        encoder="compact",
        head="flow",
        photometry=True,
        scaling="fixed",
        *,
        conditions=True,
        scales=None,
        space=None,
        shape=(64, 64),
        rng=0,
    ):
        bands = (bands,) if isinstance(bands, str) else tuple(bands)
        if not bands or len(set(bands)) != len(bands):
            raise ValueError(f"bands must be different names such as ('F336W', 'F438W', 'F814W'), not {bands}")
        for name, value, allowed in (("encoder", encoder, ENCODERS), ("head", head, HEADS), ("scaling", scaling, SCALINGS)):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {tuple(allowed)}, not {value!r}")
        shape = pixel_shape(shape)
        for band, scale in dict(scales or {}).items():
            if scale is not None and not (np.isscalar(scale) and 0 < scale < np.inf):
                raise ValueError(f"scales must be positive numbers of electron/s per pixel, not {scale!r} for {band}")
        self.space = ParameterSpace.paper() if space is None else space
        self.config = {
            "bands": list(bands),
            "encoder": encoder,
            "head": head,
            "photometry": bool(photometry),
            "scaling": scaling,
            "conditions": bool(conditions),
            "scales": {band: SCALES.get(band) for band in bands} | dict(scales or {}),
            "shape": list(shape),
        }
        if set(self.config["scales"]) != set(bands):
            raise ValueError(f"scales must be given for the bands {bands} alone, not {tuple(scales)}")
        with torch.random.fork_rng(devices=[]):  # a seed of its own, and the global one left alone
            torch.manual_seed(rng)
            self.module = ClusterModule(
                len(bands), shape, self.space, encoder, head, photometry, scaling, conditions
            ).eval()
        #: What the training promised: bands, unit, zero points, pixel scale, ... (JSON-able).
        self.contract = {
            "bands": list(bands),
            "unit": UNIT.to_string(),
            "stamp_shape": self.config["shape"],
            "parameter_space": self.space.to_dict(),
        }
        #: Provenance of the weights, empty before `fit`.
        self.training = {}
        #: What `calibrate` found, empty before: temperatures, coverage, reliability, false alarms; see `calibration_text`.
        self.calibration = {}
        #: What tells how strange a stamp is, a `~clustercnn.network.Domain`; None before `calibrate`.
        self.domain = None
        self._set_scales()

    @property
    def bands(self):
        """Names of the bands, in the order of the input planes."""
        return tuple(self.config["bands"])

    def __repr__(self):
        config = self.config
        photometry = ("photometry, " if config["photometry"] else "") + ("conditions, " if config["conditions"] else "")
        million = sum(p.numel() for p in self.module.parameters()) / 1e6
        seen, training = 0, self.training
        while training:  # of this training, and of those that it started from
            seen, training = seen + training["samples"], training.get("start")
        seen = f"trained on {seen:,} mocks" if seen else "not trained"
        return (
            f"<ClusterNet {' '.join(self.bands)}; {config['encoder']} encoder, {config['head']} head, "
            f"{photometry}{config['scaling']} scaling; {million:.1f} M parameters; {seen}>"
        )

    def fit(
        self,
        stream,
        samples=1_000_000,
        *,
        device="auto",
        progress=True,
        batch_size=128,
        learning_rate=2.5e-3,
        weight_decay=0.02,
        workers=0,
        precision="auto",
        start=None,
        validation=None,
        validation_samples=2048,
        validate_every=100_000,
        patience=None,
        checkpoint=None,
        checkpoint_minutes=5.0,
        tensorboard=None,
    ):
        """
        Train on a stream of mocks; the weights end as the best of their exponential moving average.

        A network that has been trained goes on from the weights that it has; if the training fails, it is as before.

        Parameters
        ----------
        stream : `~clustercnn.simulation.MockStream` or alike
            Anything with ``batch(start, size)``, a dict of tensors, and ``contract``.
        samples : int
            Mocks to see, rounded up to whole batches.
        device : str
            ``'auto'`` takes a CUDA device where there is one.
        progress : bool
            Show a bar with rate and loss, and a line per validation.
        batch_size, learning_rate, weight_decay : int, float, float
            As usual; the batch is that of all processes together, the learning rate the peak of the cycle.
        workers : int
            Processes that make batches, each with one thread; 0 makes them in this process. On a CPU the training itself then
            uses that many threads fewer. The samples and their order never depend on it.
        precision : {'auto', 'float32', 'bfloat16'}
            In which the encoder works; ``'auto'`` is bfloat16 on GPUs and float32 elsewhere. A processor without bfloat16 emulates it, many
            times slower than float32, which brings a warning.
        start : `ClusterNet`, optional
            A trained network of the same architecture, number of bands and parameter space to start from (fine-tuning), for
            example for other backgrounds, PSFs, depths or bands. Its scaling may be another one.
        validation : object, optional
            Stream whose first samples are the validation set, which is never augmented. Default: samples of ``stream`` from 2**40 on; a
            fixed set has none.
        validation_samples, validate_every : int
            Size of the validation set (0: none), and training samples between two looks at it.
        patience : int, optional
            Stop after so many looks without a better loss, 1 or more. Default: never.
        checkpoint : path, optional
            File that the whole state goes to every ``checkpoint_minutes``, and at SIGINT and SIGTERM. If it exists the
            training goes on from there, to the same result as without the interruption.
        checkpoint_minutes : float
            Minutes between checkpoints.
        tensorboard : path, optional
            Directory for logs that TensorBoard shows, if it is installed.

        Returns
        -------
        history : `~clustercnn.network.TrainingHistory`
            One row per look at the validation samples.

        Raises
        ------
        FloatingPointError
            If the loss is not finite; the message names the samples.
        FileNotFoundError
            If the folder of the checkpoint does not exist.
        ValueError
            If the stream's bands, stamp shape or parameter space are not those of the network; if ``start`` is another kind of network;
            if ``samples`` is not positive, the batch cannot be shared out, there is nothing to validate on, or the checkpoint is of another
            training.

        Notes
        -----
        The loss is the mean negative log posterior density of the positives, plus the binary cross-entropy of the class, plus
        0.3 times the negative log density of the positives' ln(visibility). AdamW with a one-cycle learning rate (up over 10
        % of the samples, then a cosine to zero), gradients clipped to a norm of 2. The schedule counts samples, never time.

        In a script that ``torchrun`` has started, each process makes and learns from its part of every batch, and the gradients are averaged
        (`~torch.nn.parallel.DistributedDataParallel`; gloo on CPUs, NCCL on GPUs): the same batches in the same order for any number of
        processes. The first process validates, writes checkpoints and shows progress.
        """
        contract = self._checked_contract(stream)
        untouched, before = copy.deepcopy(self.__dict__), self.training
        try:
            if start is not None:
                self._start_from(start)
                before = start.training
            self._set_calibration({}, None)
            self._describe(stream, contract)
            self.contract = contract
            augmentation = None
            if self.config["conditions"]:
                augmentation = Augmentation(self.module.scales, calibrated=self.config["scaling"] == "fixed")
            history = train(
                self.module,
                stream,
                samples,
                device=as_device(device),
                progress=progress,
                batch_size=batch_size,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                workers=workers,
                precision=precision,
                augmentation=augmentation,
                validation=validation,
                validation_samples=validation_samples,
                validate_every=validate_every,
                patience=patience,
                checkpoint=checkpoint,
                checkpoint_minutes=checkpoint_minutes,
                tensorboard=tensorboard,
                identity={"network": self.config, "contract": contract},
            )
        except Exception:  # refused or failed
            self.__dict__ = untouched
            raise
        finally:  # ready for `predict`, interrupted or not
            self.module.to("cpu").eval()
        last = history[-1 if history.meta["best_row"] is None else history.meta["best_row"]]
        self.training = {
            "samples": history.meta["seen"],
            **({"start": before} if before else {}),
            "augmented": augmentation is not None,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "seconds": history.meta["seconds"],
            "device": history.meta["device"],
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "versions": _versions(),
            "validation": {
                name: float(last[name]) for name in ("nll", "class_loss", "visibility_loss", "auc") if name in last.colnames
            },
        }
        return history

    def calibrate(self, stream, samples=20_000, *, first=2**41, device="auto", progress=True):
        """
        Check the trained network on mocks that it has not seen, and mend what can be mended without looking at stamps again.

        The last 10,000 of the mocks, at most half of them, tell how good the result is; all that comes before fits. From three quarters of
        it the heads of the posterior and of the visibility learn on for nine passes, which stays, head by head, only where it is better for the
        others; of 100,000 mocks and more all but the last 50,000 are for this alone, and of them only the clusters are looked at. Then come, by
        maximum likelihood, a temperature of the posterior (of the flow: the width of the normal distribution that it starts from; of the grid:
        of its softmax) and one of the class; those within two standard errors of 1 stay 1. They also fit what tells stamps that are like no mock; see
        `~clustercnn.network.Domain`. For its `~clustercnn.network.Doubt` half as many as fit are made beyond them, through PSFs of many widths, if
        the stream allows it. The others give the report, `calibration`, that `save` puts into the model file and ``clustercnn
        info`` prints. From then on `predict` takes the temperatures into account, gives a ``typicality`` and flags stamps out of the
        domain.

        Parameters
        ----------
        stream : `~clustercnn.simulation.MockStream` or alike
            As for `fit`, with positives and negatives. Best one with other backgrounds and another seed than that of the training.
        samples : int
            Mocks to look at.
        first : int
            Index of the first of them, far beyond those of the training.
        device : str
            ``'auto'`` takes a CUDA device where there is one.
        progress : bool
            Show a bar.

        Raises
        ------
        ValueError
            If the stream's bands, stamp shape or parameter space are not those of the network; for less than 10 clusters or 10 others in a
            half of the mocks.

        Notes
        -----
        Refused or interrupted, it leaves the network as it was.
        """
        if samples < LEAST:
            raise ValueError(f"samples must be at least {LEAST}, so that there are clusters and others in each half of them, not {samples}")
        self._checked_contract(stream)
        untouched = copy.deepcopy(self.__dict__)
        try:
            self._set_calibration({}, None)
            domain, report = calibrate_module(self.module.eval(), self.space, stream, samples, first, as_device(device), progress)
            self._set_calibration(report, domain)
        except BaseException:  # refused, failed or interrupted
            self.__dict__ = untouched
            raise

    def save(self, path, extra=None):
        """
        Write the network to one ``.safetensors`` file, weights in half precision, contract and provenance in the header.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            The file.
        extra : dict, optional
            JSON-able entries to add to the provenance, such as validation numbers.
        """
        training = self.training | (extra or {})
        header = {"network": self.config, "contract": self.contract, "training": training, "calibration": self.calibration}
        tensors = self.module.state_dict()
        if self.domain is not None:
            tensors |= {f"domain.{name}": tensor for name, tensor in self.domain.tensors().items()}
        write_file(path, tensors, header, half=True)
        self.training = training

    @classmethod
    def load(cls, path):
        """
        Read a network that `save` wrote.

        Raises
        ------
        ValueError
            If the file is damaged, foreign, newer than this package, or does not hold the weights that its header promises.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"there is no file {path}; ClusterNet.from_pretrained has the networks of the package")
        tensors, header = read_file(path)
        try:
            # Networks of before there were conditions have none.
            config, contract = {"conditions": False} | header["network"], dict(header["contract"])
            space = ParameterSpace.from_dict(contract["parameter_space"])
            net = cls(**config, space=space)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} has an incomplete header, or one of another network: {error}") from None
        domain = {name: tensors.pop(name) for name in list(tensors) if name.startswith("domain.")}
        try:
            net.module.load_state_dict(tensors)
            domain = Domain.from_tensors({name.removeprefix("domain."): tensor for name, tensor in domain.items()}) if domain else None
            net._set_calibration(header.get("calibration", {}), domain)
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"{path} does not hold the weights of the network in its header: {error}") from None
        net.contract, net.training = contract, header.get("training", {})
        return net

    @classmethod
    def from_pretrained(cls, name="m83"):
        """
        A network that comes with the package.

        Parameters
        ----------
        name : {'m83', 'm83-renormalized', 'm83-paper'}
            For calibrated images in electron/s; for images in any unit and calibration; or the network of Bialopetravicius & Narbutis (2020),
            for calibrated images too. All of them are for pixels of 0.04 arcsec.
        """
        folder = resources.files("clustercnn.network") / "weights"
        names = sorted(
            entry.name.removesuffix(".safetensors").replace("_", "-")
            for entry in folder.iterdir()
            if entry.name.endswith(".safetensors")
        )
        if name not in names:
            raise ValueError(f"name must be one of {tuple(names)}, not {name!r}")
        with resources.as_file(folder / f"{name.replace('-', '_')}.safetensors") as path:
            return cls.load(path)

    def predict(
        self,
        images,
        positions=None,
        draws=200,
        batch_size=256,
        device="auto",
        rng=0,
        nan="raise",
        *,
        instrument=None,
        pixel_scale=None,
        distance=None,
        zero_point_error=0 * u.mag,
        psf=None,
        progress=False,
    ):
        """
        Posteriors of the sources in an image, or of ready-made stamps.

        The sky must be subtracted as the mocks' is: to well below the noise of a pixel. The light of the galaxy stays in.

        Parameters
        ----------
        images : `~clustercnn.images.MultiBandImage` or `~astropy.units.Quantity`
            Images that hold the network's bands, or stamps of shape (n, band, ny, nx) in the network's order of bands, in
            electron/s. A renormalized network takes stamps of any unit.
        positions : array_like, `~astropy.coordinates.SkyCoord` or `~astropy.table.QTable`, optional
            Where to look: 0-indexed pixels (x, y) of shape (n, 2), sky positions, or a table with ``x_centroid`` and
            ``y_centroid``. Needed with images, not allowed with stamps.
        draws : int
            Posterior draws per source.
        batch_size : int
            Stamps in memory at once; changes nothing else.
        device : str
            ``'auto'`` takes a CUDA device where there is one.
        rng : None, int, `~numpy.random.SeedSequence` or `~numpy.random.Generator`
            Source of randomness of the draws.
        nan : {'raise', 'mask'}
            What to do with pixels that are NaN (or masked, or off the image), with bands that the images lack and those that are 0 all over
            a stamp: complain of the former two, or set a flag. A network with ``conditions`` knows which pixels and bands are missing,
            and its posteriors are the wider for it. For another one pixels are filled with the median of stamp and band, no band may be
            missing, and a source with a hole within 4 pixels of its centre gets no answer. A source of which nothing is known gets none
            either: its posterior is the prior, ``p_cluster`` 0.5, ``visibility`` NaN, and its flag says so.
        instrument : `~clustercnn.instruments.Instrument`, optional
            What the data were taken with. Needed for images in electron, adu or flux densities; and where its zero points
            differ from the network's, the pixels are brought to the latter. Passbands and pixel scale must be the network's. A
            network with ``conditions`` and fixed scaling takes the exposures into account; those beyond what it was trained for
            (for a network of one depth by a factor of more than 1.4) bring a warning and a flag. Without it the depth is taken to be that
            of the training's instrument.
        pixel_scale : `~astropy.units.Quantity`, optional
            Angle per pixel of stamps, to be checked against the network's (images know their own).
        distance : `~astropy.units.Quantity`, optional
            Distance of the galaxy, to be checked against the network's: masses follow from it.
        zero_point_error : `~astropy.units.Quantity`, optional
            Standard deviation of the zero points of the data, 0 to 0.3 mag. A network with ``conditions`` takes it into account.
        psf : dict, optional
            Band -> `~clustercnn.psf.PSF` of the data, such as `~clustercnn.psf.as_psf` makes of the stars of the images. A network whose
            training had PSFs of many widths (``psf_scatter``; ``"m83"``) takes into account how much sharper or wider they are than its own;
            those beyond what it was trained for bring a warning and a flag. Without it the PSF is taken to be that of the training.
        progress : bool
            Show a bar.

        Returns
        -------
        estimate : `~clustercnn.estimate.ClusterEstimate`

        Raises
        ------
        TypeError
            If stamps are not a Quantity.
        `~astropy.units.UnitsError`
            If their unit does not convert to electron/s.
        ValueError
            For missing bands, other stamp shapes or passbands, a pixel scale or distance more than 2 % off the network's, headers that
            state another filter or zero point where there is no ``instrument``, and NaN unless ``nan="mask"``.

        Warns
        -----
        `~astropy.utils.exceptions.AstropyUserWarning`
            If the network is not trained, if the exposures of ``instrument``, the PSF, or the exposures that headers state differ from its own, or
            a zero point in a header cannot be read.
        """
        if draws < 1 or batch_size < 1:
            raise ValueError(f"draws and batch_size must be at least 1, not {draws} and {batch_size}")
        if distance is not None:
            self._check_close("distance", as_quantity(distance, u.Mpc, "distance").value, "distance_mpc", "Mpc")
        if not self.training:
            warnings.warn("this network has not been trained: its posteriors mean nothing", AstropyUserWarning, stacklevel=2)
        error = self._zero_point_error(zero_point_error)
        n, chunks = self._stamps(images, positions, batch_size, nan, instrument, pixel_scale)
        depth, too_deep = self._depth(instrument)
        powers, too_wide = self._psf(psf)
        rng = np.random.default_rng(rng)
        device = as_device(device)
        module = self.module.to(device).eval()
        d = len(self.space)
        all_draws = np.empty((n, draws, d), np.float32)
        visibility = np.empty((n, draws), np.float32)
        p_cluster, typicality = np.empty(n), np.full(n, np.nan)
        flags = np.full(n, FLAGS["depth unlike training"] * too_deep | FLAGS["PSF unlike training"] * too_wide)
        try:
            with torch.inference_mode(), tqdm(total=n, unit="source", disable=not progress, desc="predicting") as bar:
                start = 0
                for pixels in chunks:
                    pixels, bad = self._whole(pixels, nan, start)
                    stop = start + len(pixels)
                    # One sequence for all sources, source by source: the size of the batch cannot matter.
                    normals = torch.from_numpy(rng.standard_normal((len(pixels), draws, d + 2), dtype=np.float32))
                    told = [part.expand(len(pixels), *part.shape[1:]).to(device) for part in (depth, torch.tensor([error]), powers)]
                    features = module(torch.from_numpy(pixels).to(device), *told)
                    answer = [part.cpu().numpy() for part in module.say(features, normals.to(device))]
                    lost = bad & FLAGS["no answer"] > 0
                    prior = self.space.from_unit(ndtr(normals[lost, :, :d].numpy()))
                    for part, unknown in zip(answer, (prior, np.nan, 0.5), strict=True):
                        part[lost] = unknown
                    all_draws[start:stop], visibility[start:stop], p_cluster[start:stop] = answer
                    if self.domain is not None:
                        typicality[start:stop] = self._typicality(module, pixels, features, told, bad, lost)
                        bad |= np.where(typicality[start:stop] <= OUT_OF_DOMAIN, FLAGS["out of domain"], 0)
                    flags[start:stop] |= bad
                    bar.update(stop - start)
                    start = stop
        finally:
            self.module.to("cpu")
        meta = {"model": repr(self), "draws": draws}
        typicality = None if self.domain is None else typicality
        return ClusterEstimate(all_draws, self.space, p_cluster, visibility, flags, meta, typicality)

    def activation_map(self, images, positions=None, batch_size=256, nan="raise", *, instrument=None, pixel_scale=None):
        """
        The paper's activation maps: the softmax over the joint grid of age, A_V and mass.

        Parameters
        ----------
        images, positions, batch_size, nan, instrument, pixel_scale
            As for `predict`.

        Returns
        -------
        cube : `~numpy.ndarray`
            Shape (n, 20, 10, 14) for the paper's grid; sums to 1 per source.
        edges : dict
            Bin edges of each axis, name to `~astropy.units.Quantity`.

        Raises
        ------
        ValueError
            If the network has no grid head.
        """
        if self.config["head"] != "grid":
            raise ValueError(
                "activation_map needs a network with head='grid'; for a flow use predict(...).joint('age', 'a_v')"
            )
        _, chunks = self._stamps(images, positions, batch_size, nan, instrument, pixel_scale)
        depth, _ = self._depth(instrument)
        cubes = []
        start = 0
        with torch.inference_mode():
            for pixels in chunks:
                pixels, _ = self._whole(pixels, nan, start)
                start += len(pixels)
                features = self.module(torch.from_numpy(pixels), depth.expand(len(pixels), -1))
                cubes.append(self.module.posterior.activation(features).numpy())
        bins = self.space.bins[:-1]
        return (np.concatenate(cubes) if cubes else np.empty((0, *bins), np.float32)), {
            p: self.space[p].edges() for p in self.space.names[:-1]
        }

    def _stamps(self, images, positions, batch_size, nan, instrument, pixel_scale):
        """Number of stamps, and an iterator of (m, band, ny, nx) float32 arrays in electron/s, NaN where unknown."""
        if nan not in ("raise", "mask"):
            raise ValueError(f"nan must be 'raise' or 'mask', not {nan!r}")
        return read_stamps(
            images, positions, self.contract, instrument=instrument, pixel_scale=pixel_scale, batch_size=batch_size, nan=nan,
            # Without calibration the unit of the images is as good as any.
            unit=UNIT if self.config["scaling"] == "fixed" else None,
            incomplete=self.config["conditions"] and nan == "mask",
        )

    def _whole(self, pixels, nan, start):
        """Stamps as the module takes them, and a flag for each."""
        return (flagged if self.config["conditions"] else filled)(pixels, nan, start)

    def _zero_point_error(self, value):
        error = as_quantity(value, u.mag, "zero_point_error")
        if error.ndim or not 0 <= error.value <= ZERO_POINT_ERROR:
            raise ValueError(f"zero_point_error must be one number from 0 to {ZERO_POINT_ERROR} mag, not {value}")
        if error.value and not (self.config["conditions"] and self.config["scaling"] == "fixed"):
            raise ValueError("zero_point_error goes with a network that has conditions and fixed scaling")
        return float(error.value)

    def _depth(self, instrument):
        """Logarithm of the depth over that of the contract, shape (1, n_bands), and whether training covered none of it."""
        if instrument is None:
            return torch.zeros(1, len(self.bands)), False
        depth = log_depth(instrument, self.contract)
        far = np.abs(depth).max() > np.log10(depth_covered(self.contract))
        return torch.tensor(depth[None], dtype=torch.float32), bool(far)

    def _psf(self, psf):
        """Powers of the PSF over that of the contract, shape (1, n_bands, 3), 0 unless training had several; and whether it had none such."""
        powers = np.zeros((len(self.bands), len(NODES))) if psf is None else log_psf_powers(psf, self.contract)
        far = np.abs(powers).max() > psf_covered(self.contract)
        told = self.config["conditions"] and self.contract.get("psf_scatter", 0.0) > 0
        return torch.tensor(powers[None] * told, dtype=torch.float32), bool(far)

    def _check_close(self, name, value, key, unit):
        expected = self.contract.get(key)
        if expected is not None and not abs(value / expected - 1) <= 0.02:
            raise ValueError(f"the {name} is {value:.4g} {unit}, but the network was trained at {expected:.4g} {unit}")

    def _typicality(self, module, pixels, features, told, flags, lost):
        """See `Domain`; a network without conditions takes filled pixels for known ones."""
        complete = flags & FLAGS["masked pixels"] == 0 if self.config["conditions"] else np.full(len(pixels), True)
        seen = look(module, torch.from_numpy(pixels).to(features.device), features, *told)
        kinds = kinds_of(seen, complete, has_own_psf(told[-1]).cpu().numpy())
        return np.where(lost, np.nan, self.domain.typicality(seen, kinds))

    def _checked_contract(self, stream):
        """A copy of the stream's contract, if it fits."""
        contract = dict(stream.contract)
        if tuple(contract["bands"]) != self.bands:
            raise ValueError(f"the stream has bands {tuple(contract['bands'])}, the network {self.bands}")
        if list(contract["stamp_shape"]) != self.config["shape"]:
            raise ValueError(
                f"the stream has stamps of shape {tuple(contract['stamp_shape'])}, the network {tuple(self.config['shape'])}"
            )
        if ParameterSpace.from_dict(contract["parameter_space"]) != self.space:
            raise ValueError("the stream has another parameter space than the network; give it to ClusterNet as space=...")
        return contract

    def _set_calibration(self, report, domain):
        """What `calibrate` found, or nothing."""
        self.calibration, self.domain = report, domain
        temperatures = report.get("temperatures", {})
        for name, head in (("posterior", self.module.posterior), ("class", self.module.cluster)):
            head.temperature = float(temperatures[name]["temperature"]) if temperatures else 1.0

    def _start_from(self, other):
        """Take the weights of a network of the same kind."""
        if not isinstance(other, ClusterNet):
            raise TypeError(f"start must be a ClusterNet, such as ClusterNet.load('another.safetensors'), not {other!r}")
        same = ("encoder", "head", "photometry", "conditions", "shape")
        if [self.config[name] for name in same] != [other.config[name] for name in same] or len(self.bands) != len(other.bands):
            raise ValueError(f"start must be a network like this one, {self!r}, not {other!r}")
        if self.space != other.space:
            raise ValueError("start must have the parameter space of this network")
        self.module.load_state_dict(other.module.state_dict())

    def _describe(self, stream, contract):
        """Scales that are not known yet, and the noise of the mocks, from the first of them."""
        pixels = stream.batch(0, 256)["pixels"].transpose(0, 1).cpu()
        rms = 1.4826 * (pixels.flatten(2) - pixels.flatten(2).median(-1, keepdim=True).values).abs().median(-1).values
        low, high = rms.quantile(0.01, 1).tolist(), rms.quantile(0.99, 1).tolist()
        contract["background_rms"] = {
            band: [float(f"{a:.3g}"), float(f"{b:.3g}")] for band, a, b in zip(self.bands, low, high, strict=True)
        }
        for band, value in zip(self.bands, rms.median(1).values.tolist(), strict=True):
            if self.config["scales"][band] is None:
                self.config["scales"][band] = float(f"{max(value, 1e-6):.3g}")
        self._set_scales()

    def _set_scales(self):
        self.module.scales.copy_(torch.tensor([self.config["scales"][band] or 1.0 for band in self.bands]))


def _versions():
    import astropy
    import zuko

    import clustercnn

    return {"python": platform.python_version()} | {
        module.__name__: module.__version__ for module in (clustercnn, torch, np, astropy, zuko)
    }
