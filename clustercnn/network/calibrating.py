# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""After training: a last lesson, two temperatures, a measure of strangeness and a report, all from mocks that the training has not seen."""

import datetime
from functools import partial

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from tqdm import tqdm

from clustercnn.calibration import auc, calibration_error, coverage, reliability, tarp
from clustercnn.estimate import ClusterEstimate

from .augmentation import Augmentation
from .domain import KINDS, OUT_OF_DOMAIN, Domain, kinds_of, look
from .doubt import PSF_SCATTER, Doubt, mistold, shifts
from .module import TOLD, has_own_psf

__all__ = ["calibrate_module", "calibration_text"]

BATCH = 256
DRAWS = 500
SEED = 20_250  # of draws and augmentations
BEYOND = 2.0  # standard errors: a temperature nearer to 1 stays 1
COLDEST, HOTTEST = 0.2, 5.0
LEAST = 40  # mocks with which each half may hold 10 clusters and 10 others
CHECKED = 10_000  # mocks at most that fit nothing
MEASURED = 50_000  # mocks, those included, that are looked at whole where there are twice as many or more; the others teach
EPOCHS, STEP, LEARNING_RATE = 9, 256, 1e-3  # of the last lesson: passes, clusters a step, and the highest rate


def calibrate_module(module, space, stream, samples, first, device, progress):
    """
    Give the posterior and the visibility of a trained module a last lesson, set its temperatures, and measure it.

    The last 10,000 of the mocks, at most half of them, tell how good it is, and those before them fit, the first three quarters of which teach. Of
    100,000 mocks and more 40,000 fit, and all before those teach. Half of those that fit teach what tells zero points and PSFs, the other half
    how strange mocks are.

    Parameters
    ----------
    module : `ClusterModule`
        In evaluation mode; its posterior and its temperatures change.
    space, stream, samples, first, device, progress
        As for `ClusterNet.calibrate`.

    Returns
    -------
    domain : `~clustercnn.network.Domain`
    report : dict
        JSON-able; see `calibration_text`.
    """
    _round(module)
    varied = _through_more_psfs(stream)
    taught = samples - MEASURED if samples >= 2 * MEASURED else 0
    measured = samples - taught
    lesson = _seen(module, stream, taught, first, device, progress, clusters_only=True) if taught else None
    mocks = _seen(module, stream, measured, first + taught, device, progress)
    fitted = max(measured // 2, measured - CHECKED)
    fitting, checking = _split(mocks, fitted)
    for part in (fitting, checking):
        if min(part["positive"].sum(), (~part["positive"]).sum()) < 10:
            raise ValueError("samples must be so many that each half of them holds at least 10 clusters and 10 other stamps")
    others = {} if varied is None else _seen(module, varied, fitted // 2, first + samples, device, progress, plain_only=True)
    domain = _fit_domain(fitting, others)
    lesson, test = (lesson, fitting) if taught else _split(fitting, fitted * 3 // 4)
    lessons = {
        "last_lesson": _last_lesson(module, module.posterior, _posterior_loss, lesson, test, checking),
        "visibility_lesson": _last_lesson(module, module.visibility, _visibility_loss, lesson, test, checking),
    }
    temperatures = _fit_temperatures(module, test if lessons["last_lesson"]["stays"] else fitting, fitting, checking)
    report = _report(module, space, checking, domain)
    report |= lessons | {
        "temperatures": temperatures,
        "mocks": {"taught": taught, "fitted": fitted, "checked": measured - fitted, "first": first}
        | {name: stream.contract[name] for name in ("seed", "spawn_key") if name in stream.contract},
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }
    return domain, report


def _round(module):
    """Weights as a model file keeps them, so that what is measured is what it holds."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.dtype == torch.float32 and tensor.ndim > 1:
                tensor.copy_(tensor.half())


def _seen(module, stream, samples, first, device, progress, clusters_only=False, plain_only=False):
    """
    Labels of the mocks, what the module sees of them as they are, augmented if it takes conditions, and with zero points that are off if it
    is calibrated, half of those augmented, too; a row per mock.

    ``own_psf`` tells those through the PSF that a network presumes where it is told none. Of clusters only, features and no views, and nothing
    with zero points that are off.
    """
    calibrated = module.scaling == "fixed"
    augmentation = Augmentation(module.scales, calibrated=calibrated) if module.conditions and not plain_only else None
    mocks, rows = {}, 0
    module.to(device)
    with torch.inference_mode(), tqdm(total=samples, unit="mock", disable=not progress, desc="calibrating") as bar:
        for start in range(0, samples, BATCH):
            batch = {name: values.cpu() for name, values in stream.batch(first + start, min(BATCH, samples - start)).items()}
            bar.update(len(batch["pixels"]))
            positive = batch["is_cluster"] > 0.5
            if clusters_only:
                batch, positive = {name: values[positive] for name, values in batch.items()}, positive[positive]
            n = len(positive)
            part = {"parameters": batch["parameters"], "visibility": batch["visibility"], "positive": positive}
            part["own_psf"] = has_own_psf(batch["psf"]) if "psf" in batch else torch.ones(n, dtype=torch.bool)
            part |= _view(module, batch, device, not clusters_only)
            generator = torch.Generator().manual_seed(SEED + start)
            if augmentation is not None:
                augmented = augmentation(batch, augmentation.numbers(n, generator))
                part["incomplete"] = ~torch.isfinite(augmented["pixels"]).flatten(1).all(1)
                part |= _titled("augmented", _view(module, augmented, device, not clusters_only))
            if calibrated and not clusters_only and not plain_only:
                shifted = dict(batch)
                if augmentation is not None:
                    shifted |= {"pixels": batch["pixels"].clone(), "zero_point_error": torch.zeros(n)}
                    for name in ("pixels", "zero_point_error"):
                        shifted[name][1::2] = augmented[name][1::2]
                shifted["pixels"] = shifted["pixels"] * (10 ** (-0.4 * shifts(n, len(module.scales), generator)))[:, :, None, None]
                part |= _titled("shifted", _view(module, shifted, device, True))
            for name, values in part.items():  # into one block each: small pieces between the stamps would scatter over the memory
                if name not in mocks:
                    mocks[name] = values.new_empty(samples, *values.shape[1:])
                mocks[name][rows : rows + n] = values
            rows += n
    module.to("cpu")
    return {name: values[:rows] for name, values in mocks.items()}


def _split(mocks, n):
    """The first n mocks and the others."""
    return ({name: values[part] for name, values in mocks.items()} for part in (slice(n), slice(n, None)))


def _view(module, batch, device, whole):
    """The features of a batch and, of the whole, the views of it by their names."""
    pixels = batch["pixels"].to(device)
    told = [batch[name].to(device) if name in batch else None for name in TOLD]
    features = module(pixels, *told)
    seen = look(module, pixels, features, *told) if whole else {}
    return {"features": features.cpu()} | {f"view {name}": torch.from_numpy(values) for name, values in seen.items()}


def _titled(title, values):
    return {f"{title} {name}": value for name, value in values.items()}


def _through_more_psfs(stream):
    """The stream with PSFs of many more widths; None where they cannot vary."""
    if not hasattr(stream, "with_psf_scatter"):
        return None
    try:
        return stream.with_psf_scatter(PSF_SCATTER)
    except ValueError:
        return None


def _looks(mocks, title=""):
    """What `look` gave of mocks, of those with a title; nothing where there are none."""
    start = f"{title}view "
    return {name.removeprefix(start): values.numpy() for name, values in mocks.items() if name.startswith(start)}


def _kinds_and_looks(mocks, title=""):
    """The kind of each mock and what `look` gave of it, as it is or augmented."""
    seen, own = _looks(mocks, title), mocks["own_psf"].numpy()
    complete = ~mocks["incomplete"].numpy() if title else np.full(len(own), True)
    return kinds_of(seen, complete, own), seen


def _by_kind(mocks):
    """
    The views of mocks by their kind.

    Of a module that takes conditions every other mock is augmented, as no stamp says that its sky is off; and none counts twice.
    """
    kinds, seen = _kinds_and_looks(mocks)
    if "incomplete" in mocks:
        other_kinds, augmented = _kinds_and_looks(mocks, "augmented ")
        odd = np.arange(len(kinds)) % 2 == 1
        kinds = np.where(odd, other_kinds, kinds)
        seen = {name: np.where(odd[:, None], augmented[name], values) for name, values in seen.items()}
    return {kind: {name: values[kinds == kind] for name, values in seen.items()} for kind in KINDS}


def _fit_domain(mocks, others):
    """
    How strange mocks are, by half of them; the other half, and ``others`` through more PSFs, teach what zero points and PSFs look like.
    """
    teaching, telling = _split(mocks, len(mocks["positive"]) // 2)
    right = [seen for seen in (_looks(teaching), _looks(teaching, "augmented "), _looks(others)) if seen]
    wrong = [seen for seen in [_looks(teaching, "shifted ")] if seen]
    if not all(part["own_psf"].all() for part in (teaching, others) if part):
        rng = np.random.default_rng(SEED)
        wrong += [mistold(seen, rng) for seen in right]
    if not wrong:
        return Domain.fit(_by_kind(mocks))
    doubt = Doubt.fit(right, wrong)
    _round(doubt)
    return Domain.fit(_by_kind(telling), doubt)


def _last_lesson(module, head, loss, lesson, test, checking):
    """
    Let the head of the posterior or of the visibility learn on, from what the module sees of the clusters of a lesson, plain and augmented.

    A pass over what has been seen costs a hundredth of one over mocks that must be simulated and looked at, so that the head gets to
    where the training of the whole had no time to go. What it has learned stays only if it is better for the clusters of a test.

    Parameters
    ----------
    module : `ClusterModule`
    head : `~torch.nn.Module`
        The part of it that learns.
    loss : callable
        `_posterior_loss` or `_visibility_loss`.
    lesson, test, checking : dict of `~torch.Tensor`
        Mocks as `_seen` gives them.

    Returns
    -------
    result : dict
        How many ``clusters`` the lesson had, whether it ``stays``, and the ``gain`` for the mocks that check.
    """
    before, start = _plain_loss(module, checking, loss), {name: tensor.clone() for name, tensor in head.state_dict().items()}
    learned, tested = _views_of_clusters(lesson), _views_of_clusters(test)
    tested_before = _mean_loss(module, loss, tested)
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=0.0)
    n = len(learned[0])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * -(-n // STEP), pct_start=0.1)
    for _ in range(EPOCHS):
        for rows in torch.randperm(n, generator=generator).split(STEP):
            optimizer.zero_grad()
            loss(module, *(values[rows] for values in learned)).mean().backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    _round(head)
    stays = _mean_loss(module, loss, tested) < tested_before
    if not stays:
        head.load_state_dict(start)
    return {"clusters": int(lesson["positive"].sum()), "stays": stays, "gain": before - _plain_loss(module, checking, loss)}


def _views_of_clusters(mocks):
    """Features, parameters and visibilities of the clusters, those of the augmented ones after those of the plain ones."""
    features = [mocks[kind][mocks["positive"]] for kind in ("features", "augmented features") if kind in mocks]
    return torch.cat(features), *(torch.cat([mocks[name][mocks["positive"]]] * len(features)) for name in ("parameters", "visibility"))


def _posterior_loss(module, features, parameters, visibility, exact=False):
    """Of each cluster; exact, without the smoothed labels of the grid head, it is minus the log density of the truth."""
    return -module.posterior.log_prob(features, parameters) if exact else module.posterior.loss(features, parameters)


def _visibility_loss(module, features, parameters, visibility, exact=False):
    """Minus the log density of the true visibility, at the true parameters, of each cluster."""
    return -module.visibility.log_prob(features, module.posterior.to_unit(parameters), visibility)


def _mean_loss(module, loss, clusters):
    with torch.inference_mode():
        return float(loss(module, *clusters, exact=True).double().mean())


def _plain_loss(module, mocks, loss):
    """Mean loss of the plain clusters through the PSF that is presumed where none is told."""
    these = mocks["positive"] & mocks["own_psf"]
    return _mean_loss(module, loss, [mocks[name][these] for name in ("features", "parameters", "visibility")])


def fit_temperature(loss, n):
    """
    The temperature at which a loss is lowest.

    Parameters
    ----------
    loss : callable
        Mean negative log likelihood of n mocks at a temperature.
    n : float
        How many mocks.

    Returns
    -------
    temperature, error : float
        1 where the best is within two standard errors of it; the error follows from the curvature of the loss.

    Examples
    --------
    A normal posterior that is too narrow by a factor of 1.2:

    >>> import numpy as np
    >>> from clustercnn.network.calibrating import fit_temperature
    >>> deviates = 1.2 * np.random.default_rng(1).standard_normal(10_000)
    >>> temperature, error = fit_temperature(lambda t: np.log(t) + 0.5 * np.mean((deviates / t) ** 2), 10_000)
    >>> print(f"{temperature:.1f} {error:.4f}")
    1.2 0.0085
    """

    def of_log(log_temperature):
        return loss(float(np.exp(log_temperature)))

    best = minimize_scalar(of_log, bounds=np.log([COLDEST, HOTTEST]), method="bounded", options={"xatol": 1e-3}).x
    step = 0.05
    curvature = (of_log(best + step) - 2 * of_log(best) + of_log(best - step)) / step**2
    error = 1 / np.sqrt(max(curvature * n, 1e-12))
    temperature = float(np.exp(best))
    return (1.0 if abs(best) < BEYOND * error else temperature), float(error * temperature)


def _fit_temperatures(module, unseen, fitting, checking):
    """Fit and set both; what they are, their errors, and the loss that they save on the mocks that were not fitted."""
    found = {}
    for name, head, loss, mocks, n in (
        ("posterior", module.posterior, partial(_plain_loss, loss=_posterior_loss), unseen, int((unseen["positive"] & unseen["own_psf"]).sum())),
        ("class", module.cluster, _class_loss, fitting, _effective_number(fitting["positive"])),
    ):

        def at(temperature, mocks=mocks, head=head, loss=loss):
            head.temperature = temperature
            return loss(module, mocks)

        temperature, error = fit_temperature(at, n)
        before, after = at(1.0, checking), at(temperature, checking)
        found[name] = {"temperature": temperature, "error": error, "loss": after, "gain": before - after}
    return found


def _class_loss(module, mocks):
    """Mean binary cross-entropy at equal prior odds."""
    with torch.inference_mode():
        positive, log_odds = mocks["positive"], module.cluster(mocks["features"]).double()
    loss = torch.nn.functional.softplus(torch.where(positive, -log_odds, log_odds))
    return 0.5 * float(loss[positive].mean() + loss[~positive].mean())


def _effective_number(positive):
    """Of mocks, where positives and negatives count the same in all."""
    positives = int(positive.sum())
    return 4 / (1 / positives + 1 / (len(positive) - positives))


def _report(module, space, mocks, domain):
    """All that is checked, from the mocks that fitted nothing."""
    positive = mocks["positive"].numpy()
    estimate, truth = answers_and_truth(module, space, mocks)
    with torch.inference_mode():
        p_cluster = module.cluster(mocks["features"]).sigmoid().double().numpy()
    # Equal odds, as the class probability promises: of the kind that there is more of the first ones.
    n = min(positive.sum(), (~positive).sum())
    even = np.concatenate([np.flatnonzero(positive)[:n], np.flatnonzero(~positive)[:n]])
    error, limit = calibration_error(p_cluster[even], positive[even])
    own = mocks["own_psf"].numpy()[positive]
    ours, others = ({name: value[rows] for name, value in truth.items()} for rows in (own, ~own))
    joint = tarp(estimate[own], ours, levels=np.arange(1, 10) / 10)
    return {
        "clusters": int(positive.sum()),
        "negatives": int((~positive).sum()),
        "coverage": _rows(coverage(estimate[own], ours)),
        **({} if own.all() else {"coverage_other_psf": _rows(coverage(estimate[~own], others))}),
        "joint_coverage": _rows(joint),
        "class": {
            "reliability": _rows(reliability(p_cluster[even], positive[even])),
            "expected_calibration_error": error,
            "by_chance": limit,
            "auc": auc(p_cluster, positive),
        },
        "domain": _false_alarms(domain, mocks, positive),
    }


def answers_and_truth(module, space, mocks):
    """What the module says of the clusters among mocks, and their true parameters and visibilities."""
    positive, answers = mocks["positive"], []
    generator = torch.Generator().manual_seed(SEED)
    with torch.inference_mode():
        for features in mocks["features"][positive].split(BATCH // 4):  # so many draws take memory
            answers.append(module.say(features, torch.randn(len(features), DRAWS, len(space) + 2, generator=generator)))
    draws, visibility, _ = (torch.cat(part).numpy() for part in zip(*answers, strict=True))
    truth = space.from_coordinates(mocks["parameters"][positive].numpy()) | {"visibility": mocks["visibility"][positive].numpy()}
    return ClusterEstimate(draws, space, visibility=visibility), truth


def _rows(table):
    """A table as a list of dicts that JSON can hold."""
    return [{name: row[name].item() if hasattr(row[name], "item") else row[name] for name in table.colnames} for row in table]


def _false_alarms(domain, mocks, positive):
    """Share of mocks that are flagged though they are what the network was made for: clusters by fifths of visibility, others, augmented ones."""
    own = mocks["own_psf"].numpy()
    kinds, seen = _kinds_and_looks(mocks)
    typicality = domain.typicality(seen, kinds)
    clusters, visibility = typicality[own & positive], mocks["visibility"].numpy()[own & positive]
    edges = np.quantile(visibility, np.linspace(0, 1, 6))
    fifth = np.searchsorted(edges[1:-1], visibility)
    groups = {"clusters": clusters}
    for i, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        groups[f"clusters of visibility {low:.3g} to {high:.3g}"] = clusters[fifth == i]
    groups |= {"others": typicality[own & ~positive], "through other PSFs": typicality[~own]}
    if "incomplete" in mocks:
        kinds, seen = _kinds_and_looks(mocks, "augmented ")
        typicality = domain.typicality(seen, kinds)
        groups |= {
            "turned, with a sky that may be off": typicality[kinds == "complete"],
            "with uncertain zero points": typicality[kinds == "uncertain zero points"],
            "with unknown pixels or bands": typicality[kinds == "incomplete"],
        }
    error = (OUT_OF_DOMAIN * (1 - OUT_OF_DOMAIN)) ** 0.5
    return [
        {"mocks": name, "n": len(group), "false_alarms": float(np.mean(group <= OUT_OF_DOMAIN)), "error": error / len(group) ** 0.5}
        for name, group in groups.items() if np.isfinite(group).any()  # of kinds of which there were too few nothing is said
    ]


def calibration_text(report):
    """
    The report of a calibration as lines to read.

    Parameters
    ----------
    report : dict
        `ClusterNet.calibration <clustercnn.network.ClusterNet>`; may be empty.

    Returns
    -------
    text : str
    """
    if not report:
        return "Calibration: none; ClusterNet.calibrate makes one."
    mocks, temperatures, of_class, domain = (report[name] for name in ("mocks", "temperatures", "class", "domain"))
    seed = f", seed {mocks['seed']}" if "seed" in mocks else ""
    lines = [
        f"Calibration of {report['date']}: fitted on {mocks['fitted']:,} mocks, checked on {report['clusters']:,} clusters and "
        f"{report['negatives']:,} others{seed}",
        "",
        "temperature      value    error     loss     gain",
    ]
    for name, found in temperatures.items():
        lines.append(f"  {name:12} {found['temperature']:7.3f}  {found['error']:7.3f}  {found['loss']:7.4f}  {found['gain']:7.4f}")
    lines.append("")
    for name, title in (("last_lesson", "posterior"), ("visibility_lesson", "visibility")):
        if name in report:  # older networks had none of the visibility
            lesson = report[name]
            end = f"gain {lesson['gain']:.4f}" if lesson["stays"] else "no gain, undone"
            if "checked" in lesson:  # of tools/teach_visibility.py
                end += f", on other mocks (seed {lesson['seed']}, {lesson['date']}), of which {lesson['checked']:,} clusters give its intervals"
            lines.append(f"last lesson of the {title}: {lesson['clusters']:,} clusters, {end}")
    for key, title in (("coverage", ""), ("coverage_other_psf", ", through other PSFs")):
        if key not in report:
            continue
        lines += ["", f"intervals that hold the truth{title}       (sigma off)"]
        for name in dict.fromkeys(row["parameter"] for row in report[key]):
            rows = [row for row in report[key] if row["parameter"] == name]
            cells = (f"{row['level']:.0%}: {row['coverage']:.1%} +- {row['error']:.1%} ({row['deviation']:+.1f})" for row in rows)
            lines.append(f"  {name:18} {'   '.join(cells)}")
    cells = (f"{row['level']:.0%}: {row['coverage']:.1%} ({row['deviation']:+.1f})" for row in report["joint_coverage"])
    lines += ["", "all parameters jointly (TARP)", *(f"  {cell}" for cell in cells)]
    lines += [
        "",
        f"class: area under the curve {of_class['auc']:.4f}, expected calibration error {of_class['expected_calibration_error']:.4f} "
        f"(by chance below {of_class['by_chance']:.4f})",
        "  p_cluster   share of clusters   mocks",
    ]
    for row in of_class["reliability"]:
        lines.append(f"  {row['p']:9.3f}   {row['fraction']:.3f} +- {row['error']:.3f}   {row['n']:6d}")
    lines += ["", f"out of domain: false alarms at a typicality of {OUT_OF_DOMAIN:.0%}"]
    for row in domain:
        lines.append(f"  {row['mocks']:38} {row['false_alarms']:6.2%} +- {row['error']:.2%} of {row['n']}")
    return "\n".join(lines)
