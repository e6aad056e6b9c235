# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The training loop: an endless stream of mocks in, a trained module and its history out."""

import copy
import json
import math
import os
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial

import torch
from astropy import units as u
from astropy.table import QTable
from tqdm import tqdm

from clustercnn.calibration import auc

from .distributed import distributed, from_first, gathered, summed
from .modelfile import read_file, write_file

__all__ = ["TrainingHistory", "train"]

# The stream's own samples from here on are kept for validation when no other stream is given.
VALIDATION_START = 2**40
# The parts of the loss and what each counts.
PARTS = {"nll": 1.0, "class": 1.0, "visibility": 0.3}
CLIP = 2.0
PRECISIONS = {"auto": None, "float32": False, "bfloat16": True}


class TrainingHistory(QTable):
    """
    How a training went: one row per look at the validation samples, the last one at the end.

    Columns: ``samples`` (seen so far), ``time`` (training time), ``rate`` (mocks per second), ``learning_rate``,
    ``train_nll`` (mean since the row before), ``nll``, ``class_loss``, ``visibility_loss`` and ``auc`` of the averaged
    weights on the validation samples. `meta` holds the settings of the run.
    """


class _Batches(torch.utils.data.Dataset):
    """This process's part of batch ``i`` of a stream."""

    def __init__(self, stream, size, rank, world):
        self.stream, self.size, self.rank, self.part = stream, size, rank, size // world

    def __getitem__(self, i):
        return self.stream.batch(i * self.size + self.rank * self.part, self.part)


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
    module,
    stream,
    samples,
    *,
    batch_size=128,
    learning_rate=2.5e-3,
    weight_decay=0.02,
    workers=0,
    device="cpu",
    precision="auto",
    augmentation=None,
    validation=None,
    validation_samples=2048,
    validate_every=100_000,
    patience=None,
    checkpoint=None,
    checkpoint_minutes=5.0,
    tensorboard=None,
    progress=True,
    identity=None,
):
    """
    Train a module on a stream; its weights end as the best of their exponential moving average.

    The loss is the mean negative log posterior density of the positives, plus the binary cross-entropy of the class, plus
    0.3 times the negative log density of the positives' ln(visibility). AdamW with a one-cycle learning rate (up over 10
    % of the samples, then a cosine to zero), gradients clipped to a norm of 2. The schedule counts samples, never time.

    Started by ``torchrun``, each process makes and learns from its part of every batch, and the gradients are averaged
    (`~torch.nn.parallel.DistributedDataParallel`; gloo on CPUs, NCCL on GPUs): the same batches in the same order for any number of
    processes. The first process validates, writes checkpoints and shows progress.

    Parameters
    ----------
    module : `~torch.nn.Module`
        Such as `ClusterModule`, with ``losses(batch)`` and ``count(is_cluster)``.
    stream : object
        ``stream.batch(start, size)`` gives a dict of tensors; see `clustercnn.simulation.MockStream`.
    samples : int
        Mocks to train on, rounded up to whole batches.
    batch_size, learning_rate, weight_decay : int, float, float
        As usual; the batch is that of all processes together, the learning rate the peak of the cycle.
    workers : int
        Processes that make batches, each with one thread; 0 makes them in this process. On a CPU the training itself then
        uses that many threads fewer. The samples and their order never depend on it.
    device : str or `~torch.device`
        Where to train.
    precision : {'auto', 'float32', 'bfloat16'}
        In which the encoder works; ``'auto'`` is bfloat16 on GPUs and float32 elsewhere.
    augmentation : `Augmentation`, optional
        What is done to the stamps before the network sees them; never to those of the validation.
    validation : object, optional
        Stream whose first samples are the validation set. Default: samples of ``stream`` from 2**40 on.
    validation_samples, validate_every : int
        Size of the validation set (0: none), and training samples between two looks at it.
    patience : int, optional
        Stop after so many looks without a better loss. Default: never.
    checkpoint : path, optional
        File that the whole state goes to every ``checkpoint_minutes``, and at SIGINT and SIGTERM. If it exists the
        training goes on from there, to the same result as without the interruption.
    checkpoint_minutes : float
        Minutes between checkpoints.
    tensorboard : path, optional
        Directory for logs that TensorBoard shows, if it is installed.
    progress : bool
        Show a progress bar.
    identity : dict, optional
        JSON-able description of network and stream, kept in the checkpoint and compared on resuming.

    Returns
    -------
    history : `TrainingHistory`
        One row per validation.

    Raises
    ------
    FloatingPointError
        If the loss is not finite; the message names the samples.
    ValueError
        If ``samples`` is not positive, the batch cannot be shared out, or the checkpoint is of another training.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    device = torch.device(device)
    with distributed(device) as (rank, world, device), _precision(module, precision):
        if batch_size < 2 or batch_size % world:
            raise ValueError(f"batch_size must be at least 2, and a multiple of the {world} processes, not {batch_size}")
        steps, progress = math.ceil(samples / batch_size), progress and rank == 0
        module.to(device).train()
        settings = {
            "samples": steps * batch_size,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "augmented": augmentation is not None,
        }
        settings = json.loads(json.dumps(settings | (identity or {})))  # as a checkpoint will give it back
        average = copy.deepcopy(module).eval().requires_grad_(False)
        best = {}
        optimizer = _optimizer(module, learning_rate, weight_decay, device)
        state = {"step": 0, "seconds": 0.0, "rows": [], "best_row": None}
        if checkpoint is not None and os.path.exists(checkpoint):
            _restore(checkpoint, module, average, best, optimizer, state, settings)
        loss_of = _Loss(module)
        if world > 1:
            loss_of = torch.nn.parallel.DistributedDataParallel(loss_of, broadcast_buffers=False)

        held = _validation_batches(validation, stream, validation_samples, batch_size) if rank == 0 else []
        loader = torch.utils.data.DataLoader(
            _Batches(stream, batch_size, rank, world),
            batch_size=None,
            sampler=range(state["step"], steps),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=device.type == "cuda" and workers > 0,
            worker_init_fn=_leave_signals_to_parent,
            generator=torch.Generator(),  # else the loader draws from the global one
        )
        numbers = torch.Generator(device)
        mine = slice(rank * (batch_size // world), (rank + 1) * (batch_size // world))
        validate_steps = max(1, validate_every // batch_size)
        began = time.monotonic() - state["seconds"]
        saved = time.monotonic()
        running = []

        done, total = state["step"] * batch_size, steps * batch_size
        with (
            _interruptible(checkpoint is not None) as interrupted,
            _threads_beside(workers if device.type == "cpu" else 0),
            _logs(tensorboard if rank == 0 else None) as log,
            tqdm(total=total, initial=done, unit="mock", unit_scale=True, disable=not progress, desc="training") as bar,
        ):
            for batch in loader:
                step = state["step"]
                batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
                if augmentation is not None:
                    # Drawn for the whole batch in every process, by the step: neither processes nor an interruption change anything.
                    batch = augmentation(batch, augmentation.numbers(batch_size, numbers.manual_seed(step))[mine])
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * one_cycle((step + 0.5) / steps)
                loss, parts = loss_of(batch, partial(summed, device=device))
                parts = dict(zip(PARTS, summed(parts, device).tolist(), strict=True))
                if not all(map(math.isfinite, parts.values())):
                    bad = int((~torch.isfinite(batch["pixels"])).flatten(1).any(1).sum())
                    raise FloatingPointError(
                        f"the loss is not finite at samples {step * batch_size} to {(step + 1) * batch_size - 1} of the stream "
                        f"({', '.join(f'{name} {value}' for name, value in parts.items())}); "
                        f"{bad} of these stamps hold pixels that are not finite; if none do, try a lower learning_rate"
                    )
                (loss * world).backward()  # of which the mean over the processes is taken
                torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                module.count(gathered(batch["is_cluster"], world))
                _follow(average, module, step)
                state["step"] = step = step + 1
                running.append(parts["nll"])
                bar.update(batch_size)
                if step % 10 == 0:
                    bar.set_postfix_str(f"nll {sum(running[-100:]) / len(running[-100:]):.2f}", refresh=False)

                state["seconds"] = time.monotonic() - began
                if step % validate_steps == 0 or step == steps:
                    row = {
                        "samples": step * batch_size,
                        "time": state["seconds"],
                        "rate": step * batch_size / max(state["seconds"], 1e-9),
                        "learning_rate": optimizer.param_groups[0]["lr"],
                        "train_nll": sum(running) / len(running),
                        **(validate(average, held, device) if held else {}),
                    }
                    running = []
                    state["rows"].append(row)
                    if held and _total(row) <= min(map(_total, state["rows"])):
                        state["best_row"] = len(state["rows"]) - 1
                        best.update({name: tensor.clone() for name, tensor in average.state_dict().items()})
                    if progress:
                        bar.write("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
                    for name, value in row.items():
                        log(name, value, step * batch_size)
                    # Looking costs time that is not training's.
                    began += time.monotonic() - began - state["seconds"]
                since = None if state["best_row"] is None else len(state["rows"]) - 1 - state["best_row"]
                tired = None not in (patience, since) and since >= patience
                stop, tired = (summed(torch.tensor([float(interrupted.is_set()), float(tired)]), device) > 0).tolist()
                over = step == steps or tired
                if rank == 0 and checkpoint is not None and not over and (stop or time.monotonic() - saved > 60 * checkpoint_minutes):
                    _store(checkpoint, module, average, best, optimizer, state, settings)
                    saved = time.monotonic()
                if stop and not over:
                    raise KeyboardInterrupt(f"training stopped after {step * batch_size} samples; the state is in {checkpoint}")
                if over:
                    break

        # Every process ends with the weights of the first, which alone has looked.
        final = {name: from_first(best.get(name, tensor).to(device), world) for name, tensor in average.state_dict().items()}
        module.load_state_dict(final)
        module.eval()
        if rank == 0 and checkpoint is not None and os.path.exists(checkpoint):
            os.remove(checkpoint)
        history = TrainingHistory(rows=state["rows"]) if state["rows"] else TrainingHistory()
        if state["rows"]:
            history["time"].unit = u.s
            history["rate"].unit = 1 / u.s
            history = TrainingHistory(history)
        seen = state["step"] * batch_size
        history.meta.update(
            settings | {"seen": seen, "seconds": state["seconds"], "workers": workers, "device": str(device), "processes": world,
                        "best_row": state["best_row"]}
        )
        return history


def one_cycle(fraction, rise=0.1):
    """
    Learning rate in units of its peak: a line up from 4 %, then a cosine down to 0.

    Examples
    --------
    >>> from clustercnn.network.training import one_cycle
    >>> one_cycle(0.1), round(one_cycle(1.0), 6)
    (1.0, 0.0)
    """
    if fraction < rise:
        return 0.04 + 0.96 * fraction / rise
    return 0.5 * (1 + math.cos(math.pi * (fraction - rise) / (1 - rise)))


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
        scores.append(module.cluster(module(batch["pixels"], batch.get("depth"))).cpu())
        labels.append(batch["is_cluster"].cpu())
    mean = {name: sums[name] / max(weights[name], 1) for name in sums}
    labels = torch.cat(labels).numpy() > 0.5
    area = float(auc(torch.cat(scores).numpy(), labels)) if labels.any() and not labels.all() else float("nan")
    return {"nll": mean["nll"], "class_loss": mean["class"], "visibility_loss": mean["visibility"], "auc": area}


def _validation_batches(validation, stream, samples, size):
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


def _store(path, module, average, best, optimizer, state, settings):
    tensors = {f"best.{name}": t for name, t in best.items()}
    tensors |= {f"module.{name}": t for name, t in module.state_dict().items()}
    tensors |= {f"average.{name}": t for name, t in average.state_dict().items()}
    for i, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": t for name, t in values.items()}
    write_file(path, tensors, {"state": state, "settings": settings}, kind="checkpoint")


@torch.no_grad()
def _restore(path, module, average, best, optimizer, state, settings):
    tensors, header = read_file(path, kind="checkpoint")
    if header["settings"] != settings:
        different = [k for k in header["settings"].keys() | settings.keys() if header["settings"].get(k) != settings.get(k)]
        raise ValueError(
            f"checkpoint {path} is of another training (different: {', '.join(sorted(different))}); "
            "give the same arguments, another path, or delete it"
        )
    parts = {"module": {}, "average": {}, "best": best, "optimizer": {}}
    for name, tensor in tensors.items():
        part, name = name.split(".", 1)
        parts[part][name] = tensor
    module.load_state_dict(parts["module"])
    average.load_state_dict(parts["average"])
    moments = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in parts["optimizer"].items():
        i, name = name.split(".", 1)
        if tensor.ndim > 0:
            # The fused optimizer takes for granted that moments lie in memory as their parameters do.
            tensor = torch.empty_like(parameters[int(i)]).copy_(tensor)
        moments.setdefault(int(i), {})[name] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    state.update(header["state"])


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
