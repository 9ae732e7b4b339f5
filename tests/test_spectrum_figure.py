"""Figure 6 at reduced size: its estimates beside the whole matrix, and what it draws."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # the tools are compiled for a network of their own

PATH = Path(__file__).resolve().parents[1] / "scripts" / "fig_06_spectrum.py"


@pytest.fixture(scope="module")
def figure():
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record(figure):
    found = figure.compute(sizes=(64, 6, 10), steps=30, probes=6, lanczos=30)
    return {name: np.asarray(value) for name, value in found.items()}


def test_smoothing_keeps_the_mass_and_puts_each_eigenvalue_in_its_place(figure):
    grid = np.linspace(-3, 5, 4001)
    density = figure.smoothed([1.0, 1.0, -1.0, 2.5], grid, 0.1)
    np.testing.assert_allclose(np.sum(density) * (grid[1] - grid[0]), 1, rtol=1e-6)
    peak = 1 / (0.1 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(np.interp([1.0, -1.0, 2.5], grid, density), [peak / 2, peak / 4, peak / 4], rtol=1e-6)


def test_the_estimates_agree_with_the_matrix(record):
    assert record["parameters"] == 64 * 6 + 6 + 6 * 10 + 10
    np.testing.assert_allclose(record["top"][0], record["exact_top"], rtol=1e-5)
    assert np.all(np.diff(record["top"]) < 0) and record["top"].shape == (8,)
    assert abs(record["trace"] - record["exact_trace"]) < 4 * record["trace_error"]
    assert abs(record["negative"] - record["exact_negative"]) < 4 * record["negative_error"] + 0.05
    spacing = record["grid"][1] - record["grid"][0]
    for name in ("mean", "exact"):
        np.testing.assert_allclose(np.sum(record[name]) * spacing, 1, rtol=1e-4)
    assert record["covered"] > 0.6


def test_the_profiles_follow_their_parabolas_near_the_point(figure, record):
    for name in ("sharp", "flat"):
        fields = {field: record[f"{name}_{field}"] for field in figure.ls.hessian.Profile._fields}
        profile = figure.ls.hessian.Profile(**fields)
        near = np.abs(profile.distances) < 0.11
        np.testing.assert_allclose(profile.loss[:, near], profile.quadratic[:, near], atol=5e-3)
        np.testing.assert_allclose(profile.centre, record["loss"], rtol=1e-5)
    assert np.all(record["sharp_curvature"] > 0) and record["flat_curvature"] < 0
    np.testing.assert_allclose(record["sharp_curvature"], record["top"][:3], rtol=1e-4)


def test_the_picture_and_its_caption(figure, record):
    drawn = figure.draw(record)
    spectrum, *along = drawn.axes
    labels = [line.get_label() for line in spectrum.lines]
    assert "Lanczos quadrature" in labels and "outliers (8)" in labels and "whole matrix, same kernel" in labels
    assert [len([line for line in ax.lines if line.get_linestyle() == "-"]) for ax in along] == [3, 1]
    filled = figure.CAPTION.fill(record)
    assert "{" not in filled.measured.en + filled.measured.zh + filled.caveat.en + filled.caveat.zh
