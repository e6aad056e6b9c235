# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The training loop: an endless stream of mocks in, a trained module and its history out."""

import copy
import json
import math
import os
import signal
import threading
import time
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from astropy import units as u
from astropy.table import QTable
from astropy.utils.exceptions import AstropyUserWarning
from tqdm import tqdm

from clustercnn.calibration import auc
from clustercnn.files import to_json

from .device import emulates_bfloat16
from .distributed import distributed, from_first, gathered, summed
from .modelfile import read_file, write_file
from .module import TOLD

__all__ = ["TrainingHistory"]

# The stream's own samples from here on are kept for validation when no other stream is given.
VALIDATION_START = 2**40
# The parts of the loss and what each counts.
PARTS = {"nll": 1.0, "class": 1.0, "visibility": 0.3}
CLIP = 2.0
RISE = 0.1  # of the training, in which the learning rate goes up
# What a checkpoint holds besides tensors.
STATE = ("step", "seconds", "recent", "rows", "best_row")
PRECISIONS = {"auto": None, "float32": False, "bfloat16": True}


class TrainingHistory(QTable):
    """
    How a training went: one row per look at the validation samples, the last one at the end.

    Columns: ``samples`` (seen so far), ``time`` (training time), ``rate`` (mocks per second), ``learning_rate``,
    ``train_nll`` (mean since the row before), ``nll``, ``class_loss``, ``visibility_loss`` and ``auc`` of the averaged
    weights on the validation samples. `meta` holds the settings of the run.
    """


class _Batches(torch.utils.data.Dataset):
    """A part of batch ``i`` of a stream."""

    def __init__(self, stream, size, part):
        self.stream, self.size, self.part = stream, size, part

    def __getitem__(self, i):
        return self.stream.batch(i * self.size + self.part.start, self.part.stop - self.part.start)


class _Loss(torch.nn.Module):
    """The loss of a module as a forward pass, which is what `DistributedDataParallel` wraps."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, batch, share):
        """
        The loss and its three parts, each the sum over this batch over the weight of the whole one.

        ``share(weights)`` gives the weights of the whole batch, of which this process may have a part, from those of this part.
        """
        losses = self.module.losses(batch)
        weights = share(torch.tensor([float(losses[name][1]) for name in PARTS]))
        parts = torch.stack([losses[name][0] / max(weight, 1.0) for name, weight in zip(PARTS, weights.tolist(), strict=True)])
        return (parts * parts.new_tensor(list(PARTS.values()))).sum(), parts.detach()


def train(
    module, stream, samples, *, batch_size, learning_rate, weight_decay, workers, device, precision, augmentation, validation, validation_samples,
    validate_every, patience, checkpoint, checkpoint_minutes, tensorboard, progress, identity,
):
    """
    What `ClusterNet.fit` does with its module, which ends with the best weights of their exponential moving average; returns the history.

    The parameters are explained there, but for ``augmentation``, the `Augmentation` of stamps or None, and ``identity``, a JSON-able
    description of network and stream that is kept in the checkpoint and compared on resuming.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if patience is not None and (patience < 1 or validation_samples < 1):
        raise ValueError(f"patience must be at least 1, and goes with validation_samples, not {patience} and {validation_samples}")
    if checkpoint is not None and not Path(checkpoint).absolute().parent.is_dir():
        raise FileNotFoundError(f"checkpoint {checkpoint} cannot be written: there is no such folder")
    with distributed(torch.device(device)) as (rank, world, device), _precision(module, precision):
        if batch_size < 2 or batch_size % world:
            raise ValueError(f"batch_size must be at least 2, and a multiple of the {world} processes, not {batch_size}")
        if PRECISIONS[precision] and rank == 0 and emulates_bfloat16(device):
            warnings.warn("this processor has no bfloat16 and emulates it, many times slower than precision 'float32'", AstropyUserWarning,
                          stacklevel=3)
        steps, progress = math.ceil(samples / batch_size), progress and rank == 0
        settings = {
            "samples": steps * batch_size,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "augmented": augmentation is not None,
        }
        settings = json.loads(to_json(settings | (identity or {})))  # as a checkpoint will give it back
        trainer = _Trainer(module, steps, batch_size, learning_rate, weight_decay, augmentation, rank, world, device)
        if checkpoint is not None and os.path.exists(checkpoint):
            trainer.resume(checkpoint, settings)
        held = _validation_batches(validation, stream, validation_samples, batch_size) if rank == 0 else []
        validate_steps = max(1, validate_every // batch_size)
        trainer.go_on()
        saved = time.monotonic()
        with (
            _interruptible(checkpoint is not None) as interrupted,
            _threads_beside(workers if device.type == "cpu" else 0),
            _logs(tensorboard if rank == 0 else None) as log,
            _progress_bar(trainer.seen, steps * batch_size, progress) as bar,
        ):
            for batch in _loader(stream, range(trainer.step, steps), batch_size, rank, world, workers, device):
                trainer.learn(batch)
                bar.update(batch_size)
                if trainer.step % 10 == 0:
                    recent = trainer.recent[-100:]
                    bar.set_postfix_str(f"nll {sum(recent) / len(recent):.2f}", refresh=False)
                if trainer.step % validate_steps == 0 or trainer.step == steps:
                    row = trainer.look(held)
                    if progress:
                        bar.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
                    for name, value in row.items():
                        log(name, value, trainer.seen)
                stop, tired = trainer.agree(interrupted.is_set(), trainer.looks_without_gain(patience))
                if tired or trainer.step == steps:
                    break
                if rank == 0 and checkpoint is not None and (stop or time.monotonic() - saved > 60 * checkpoint_minutes):
                    trainer.save(checkpoint, settings)
                    saved = time.monotonic()
                if stop:
                    raise KeyboardInterrupt(f"training stopped after {trainer.seen} samples; the state is in {checkpoint}")
        trainer.finish()
        if rank == 0 and checkpoint is not None and os.path.exists(checkpoint):
            os.remove(checkpoint)
        return trainer.history(settings | {"workers": workers})


class _Trainer:
    """
    A training between two steps, and what can be done with it. Of several processes each has its own, and all have the same weights.

    ``average`` is the exponential moving average of the module, ``best`` the weights of the best average so far.
    """

    def __init__(self, module, steps, batch_size, learning_rate, weight_decay, augmentation, rank, world, device):
        self.module = module.to(device).train()
        module.cluster.counts.zero_()  # the mix of an earlier training may have been another
        self.steps, self.batch_size, self.learning_rate, self.augmentation = steps, batch_size, learning_rate, augmentation
        self.rank, self.world, self.device = rank, world, device
        self.average = copy.deepcopy(module).eval().requires_grad_(False)
        self.best = {}
        self.optimizer = _optimizer(module, learning_rate, weight_decay, device)
        self.numbers = torch.Generator(device)  # of the augmentation
        self.loss_of = _Loss(module)
        if world > 1:
            self.loss_of = torch.nn.parallel.DistributedDataParallel(self.loss_of, broadcast_buffers=False)
        self.step = 0
        self.seconds = 0.0  # of training, looks and interruptions left out
        self.recent = []  # nll of each step since the last look
        self.rows = []
        self.best_row = None

    @property
    def seen(self):
        """Samples so far."""
        return self.step * self.batch_size

    def go_on(self):
        """Let the clock run, from where it stood."""
        self.began = time.monotonic() - self.seconds

    def learn(self, batch):
        """One step of the optimizer on this process's part of a batch."""
        batch = self._prepared(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * one_cycle((self.step + 0.5) / self.steps)
        loss, parts = self.loss_of(batch, partial(summed, device=self.device))
        parts = dict(zip(PARTS, summed(parts, self.device).tolist(), strict=True))
        self._check_finite(parts, batch)
        (loss * self.world).backward()  # of which the mean over the processes is taken
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.module.cluster.count(gathered(batch["is_cluster"], self.world))
        _follow(self.average, self.module, self.step)
        self.step += 1
        self.recent.append(parts["nll"])
        self.seconds = time.monotonic() - self.began

    def _prepared(self, batch):
        """A batch on the device, augmented."""
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        if self.augmentation is None:
            return batch
        # Drawn for the whole batch in every process, by the step: neither processes nor an interruption change anything.
        numbers = self.augmentation.numbers(self.batch_size, self.numbers.manual_seed(self.step))
        return self.augmentation(batch, numbers[_part(self.batch_size, self.rank, self.world)])

    def _check_finite(self, parts, batch):
        if all(map(math.isfinite, parts.values())):
            return
        bad = int((~torch.isfinite(batch["pixels"])).flatten(1).any(1).sum())
        raise FloatingPointError(
            f"the loss is not finite at samples {self.seen} to {self.seen + self.batch_size - 1} of the stream "
            f"({', '.join(f'{name} {value}' for name, value in parts.items())}); "
            f"{bad} of these stamps hold pixels that are not finite; if none do, try a lower learning_rate"
        )

    def look(self, held):
        """A row for the history, with the losses on batches held out, if there are any; the best weights are kept."""
        row = {
            "samples": self.seen,
            "time": self.seconds,
            "rate": self.seen / max(self.seconds, 1e-9),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_nll": sum(self.recent) / len(self.recent),
            **(validate(self.average, held, self.device) if held else {}),
        }
        self.recent = []
        self.rows.append(row)
        if held and _total(row) <= min(map(_total, self.rows)):
            self.best_row = len(self.rows) - 1
            self.best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        self.go_on()  # looking costs time that is not training's
        return row

    def looks_without_gain(self, patience):
        """Whether the last looks, as many as ``patience`` says, were no better than one before them; the first process alone knows."""
        return self.rank == 0 and None not in (patience, self.best_row) and len(self.rows) - 1 - self.best_row >= patience

    def agree(self, *flags):
        """Flags that are set in any process."""
        return (summed(torch.tensor([float(flag) for flag in flags]), self.device) > 0).tolist()

    def finish(self):
        """Give the module the best weights: those of the first process, which alone has looked."""
        weights = self.average.state_dict() | self.best
        self.module.load_state_dict({name: from_first(tensor.to(self.device), self.world) for name, tensor in weights.items()})
        self.module.eval()

    def history(self, meta):
        """The rows as a table."""
        history = TrainingHistory(rows=self.rows)
        history["time"].unit = u.s
        history["rate"].unit = 1 / u.s
        history = TrainingHistory(history)  # columns with a unit become quantities
        history.meta |= meta | {"seen": self.seen, "seconds": self.seconds, "device": str(self.device), "processes": self.world,
                                "best_row": self.best_row}
        return history

    def save(self, path, settings):
        """Write all of it to a checkpoint."""
        tensors = {f"best.{name}": t for name, t in self.best.items()}
        tensors |= {f"module.{name}": t for name, t in self.module.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.state_dict().items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": t for name, t in values.items()}
        state = {name: getattr(self, name) for name in STATE}
        write_file(path, tensors, {"state": state, "settings": settings}, kind="checkpoint")

    def resume(self, path, settings):
        """Take all of it from a checkpoint, if it is of the same training."""
        tensors, header = read_file(path, kind="checkpoint")
        if header["settings"] != settings:
            different = [k for k in header["settings"].keys() | settings.keys() if header["settings"].get(k) != settings.get(k)]
            raise ValueError(
                f"checkpoint {path} is of another training (different: {', '.join(sorted(different))}); "
                "give the same arguments, another path, or delete it"
            )
        parts = {"module": {}, "average": {}, "best": self.best, "optimizer": {}}
        for name, tensor in tensors.items():
            part, name = name.split(".", 1)
            parts[part][name] = tensor
        self.module.load_state_dict(parts["module"])
        self.average.load_state_dict(parts["average"])
        self._resume_optimizer(parts["optimizer"])
        for name, value in header["state"].items():
            setattr(self, name, value)

    def _resume_optimizer(self, tensors):
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments = {}
        for name, tensor in tensors.items():
            i, name = name.split(".", 1)
            if tensor.ndim > 0:
                # The fused optimizer takes for granted that moments lie in memory as their parameters do.
                tensor = torch.empty_like(parameters[int(i)]).copy_(tensor)
            moments.setdefault(int(i), {})[name] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})


def one_cycle(fraction):
    """
    Learning rate in units of its peak: a line up from 4 %, then a cosine down to 0.

    Examples
    --------
    >>> from clustercnn.network.training import one_cycle
    >>> one_cycle(0.1), round(one_cycle(1.0), 6)
    (1.0, 0.0)
    """
    if fraction < RISE:
        return 0.04 + 0.96 * fraction / RISE
    return 0.5 * (1 + math.cos(math.pi * (fraction - RISE) / (1 - RISE)))


def _total(row):
    """The loss of a row of the history."""
    return row["nll"] + row["class_loss"] + PARTS["visibility"] * row["visibility_loss"]


@torch.no_grad()
def validate(module, batches, device):
    """Mean losses and class AUC of a module over a list of batches."""
    module.eval()
    sums, weights = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0)
    scores, labels = [], []
    for batch in batches:
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        for name, (loss, weight) in module.losses(batch, exact=True).items():
            sums[name] += float(loss)
            weights[name] += weight
        scores.append(module.cluster(module(batch["pixels"], *(batch.get(name) for name in TOLD))).cpu())
        labels.append(batch["is_cluster"].cpu())
    mean = {name: sums[name] / max(weights[name], 1) for name in sums}
    labels = torch.cat(labels).numpy() > 0.5
    area = float(auc(torch.cat(scores).numpy(), labels)) if labels.any() and not labels.all() else float("nan")
    return {"nll": mean["nll"], "class_loss": mean["class"], "visibility_loss": mean["visibility"], "auc": area}


def _part(size, rank, world):
    """Which samples of a batch a process has."""
    return slice(rank * (size // world), (rank + 1) * (size // world))


def _loader(stream, numbers, size, rank, world, workers, device):
    """This process's parts of the numbered batches of a stream, made ahead by other processes if there are workers."""
    return torch.utils.data.DataLoader(
        _Batches(stream, size, _part(size, rank, world)),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda" and workers > 0,
        worker_init_fn=_leave_signals_to_parent,
        generator=torch.Generator(),  # else the loader draws from the global one
    )


def _progress_bar(done, total, shown):
    return tqdm(total=total, initial=done, unit="mock", unit_scale=True, disable=not shown, desc="training")


def _validation_batches(validation, stream, samples, size):
    """Batches that the training never sees."""
    if validation is None and samples > 0 and hasattr(stream, "__len__"):
        raise ValueError(
            f"validation must be given, or validation_samples=0: a set of {len(stream)} mocks has none that the training does not see"
        )
    source, start = (stream, VALIDATION_START) if validation is None else (validation, 0)
    return [source.batch(start + i, min(size, samples - i)) for i in range(0, samples, size)]


def _optimizer(module, learning_rate, weight_decay, device):
    """AdamW that leaves biases and normalisations undecayed."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=device.type in ("cpu", "cuda"))


@torch.no_grad()
def _follow(average, module, step):
    """Move the average towards the module; it forgets the start quickly and never looks back over more than ~1000 steps."""
    decay = min(0.999, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)
    for mine, its in zip(average.buffers(), module.buffers(), strict=True):
        mine.copy_(its)


@contextmanager
def _precision(module, name):
    """Let the encoder of a module work in a precision."""
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {tuple(PRECISIONS)}, not {name!r}")
    module.half_precision = PRECISIONS[name]
    try:
        yield
    finally:
        module.half_precision = None


@contextmanager
def _logs(directory):
    """A function that writes a scalar to TensorBoard's logs, or does nothing."""
    if directory is None:
        yield lambda name, value, samples: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("tensorboard= needs the package tensorboard: pip install tensorboard") from error
    with SummaryWriter(str(directory)) as writer:
        yield writer.add_scalar


def _leave_signals_to_parent(worker):
    # Ctrl-C and a scheduler's SIGTERM reach every process of the group; the parent alone decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _threads_beside(workers):
    """As many threads fewer as there are workers: threads that wait for a taken core cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _interruptible(active):
    """An event that SIGINT or SIGTERM sets, so that the loop can stop between two steps."""
    event = threading.Event()
    if not active or threading.current_thread() is not threading.main_thread():
        yield event
        return
    old = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
