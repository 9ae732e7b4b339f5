"""A run's own part of the data: rows of all samples, and the labels that it trains on, noise and all."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from landscape.hessian.batches import mean_over_batches
from landscape.problem import Problem
from landscape.problems import user
from landscape.problems.user import Samples

PyTree = Any

SPLIT, LABELS = 1, 2  # streams of a run's key, beside those of `training`
CHUNK = 4096  # samples whose activations are held at once where a run is looked at


class Division(NamedTuple):
    """How all runs divide the data: static."""

    samples: int  # training samples
    own: bool  # the training samples are drawn by the run; else they are the first ones, and the test part the last
    test: int  # test samples
    classes: int
    label_noise: float


class Share(NamedTuple):
    """A run's own part of the data; None for what all runs share."""

    train: Any  # (samples,) rows; None for the first ones
    test: Any  # (test,) rows; None for the last ones
    labels: Any  # (samples,) of the training samples; None for those of the data


class Rows(NamedTuple):
    """A run's training samples as rows of all samples, so that a batch is gathered without a copy of the rest."""

    x: Any  # all samples
    frozen: PyTree
    rows: Any  # (samples,); None for the first ones
    labels: Any  # (samples,) the run's own


def drawn(key: jax.Array, labels: jax.Array, division: Division) -> Share:
    """The share of a run with this key; `labels` are those of all samples."""
    train = test = own = None
    if division.own:
        order = jax.random.permutation(jax.random.fold_in(key, SPLIT), len(labels)).astype(jnp.int32)
        train, test = order[: division.samples], order[len(order) - division.test :]
    if division.own or division.label_noise:
        clean = labels[: division.samples] if train is None else labels[train]
        own = with_noise(jax.random.fold_in(key, LABELS), clean, division)
    return Share(train, test, own)


def with_noise(key: jax.Array, labels: jax.Array, division: Division) -> jax.Array:
    """The labels, each with probability `label_noise` replaced by a class drawn uniformly."""
    if division.label_noise == 0:
        return labels
    whether, which = jax.random.split(key)
    other = jax.random.randint(which, labels.shape, 0, division.classes, labels.dtype)
    return jnp.where(jax.random.uniform(whether, labels.shape) < division.label_noise, other, labels)


def training_part(problem: Problem, own: Share, division: Division, whole: bool = False) -> Problem:
    """The problem on a run's own training samples and labels; `whole`: gathered once, for full-batch updates."""
    x, frozen, size = jnp.asarray(problem.data.x), problem.data.frozen, division.samples
    labels = jnp.asarray(problem.data.y)[:size] if own.labels is None else own.labels
    rows = Rows(x, frozen, own.train, labels)
    if whole:
        return dataclasses.replace(problem, data=Samples(_gathered(rows), labels, frozen), size=size)
    return dataclasses.replace(problem, data=rows, take=take_rows, size=size)


def held_out_part(problem: Problem, own: Share, division: Division) -> Problem:
    """The problem on a run's test samples."""
    x, y, frozen = jnp.asarray(problem.data.x), jnp.asarray(problem.data.y), problem.data.frozen
    test = jnp.arange(len(y) - division.test, len(y)) if own.test is None else own.test
    rows = Rows(x, frozen, test, y[test])
    return dataclasses.replace(problem, data=rows, take=take_rows, size=division.test)


def first_part(own: Problem, count: int) -> Problem:
    """The problem on the first of a run's training samples, gathered."""
    data = own.data
    rows = data._replace(rows=None if data.rows is None else data.rows[:count])
    x = _gathered(rows)[:count]
    return dataclasses.replace(own, data=Samples(x, data.labels[:count], data.frozen), take=user.take, size=count)


def take_rows(data: Rows, indices: jax.Array) -> Samples:
    """These of a run's training samples."""
    rows = indices if data.rows is None else data.rows[indices]
    return Samples(data.x[rows], data.labels[indices], data.frozen)


def over_chunks(own: Problem, term: Callable[[Samples], PyTree]) -> PyTree:
    """The mean over samples of `term`, which is a mean over the samples it gets."""
    take: Any = own.take
    indices = jnp.arange(own.size)
    return mean_over_batches(lambda leaves: term(take(own.data, leaves[0])), [indices], [None], CHUNK)


def _gathered(rows: Rows) -> jax.Array:
    return rows.x[: len(rows.labels)] if rows.rows is None else rows.x[rows.rows]
