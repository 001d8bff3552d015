from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from t2i_eval_kedro.reporting import figures


def lines(figure: Figure, panel: int = 0) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[panel].lines]  # type: ignore[arg-type]


def points(figure: Figure) -> np.ndarray:
    return np.asarray(figure.axes[0].collections[0].get_offsets())


def series(values: list[float]) -> pd.Series:
    return pd.Series(values, index=[f"i{k}" for k in range(len(values))])


def test_scatter_draws_every_common_item_and_the_least_squares_line() -> None:
    people, judge = series([1.0, 2.5, 3.1, 4.2]), series([0.11, 0.25, 0.31, 0.42]).drop("i1")
    figure = figures.scatter(people, judge, "metric", scale=(1, 5))
    assert len(points(figure)) == 3
    ((x, y),) = lines(figure)  # no identity: the metric is not on the raters' scale
    slope, intercept = np.polyfit(people[judge.index], judge, 1)
    assert y[0] == pytest.approx(intercept + slope * x[0])
    assert y[-1] == pytest.approx(intercept + slope * x[-1])


def test_identity_is_drawn_where_both_use_one_scale() -> None:
    people = series([1.0, 2.0, 3.0, 5.0])
    assert ([1, 5], [1, 5]) in lines(figures.scatter(people, people, "judge", scale=(1, 5)))
    assert len(lines(figures.scatter(people, people, "judge"))) == 1


def test_a_falling_axis_is_turned_over() -> None:
    people = series([1.0, 2.0, 3.0])
    assert figures.scatter(people, -people, "niqe", falling=True).axes[0].yaxis_inverted()
    assert not figures.scatter(people, people, "musiq").axes[0].yaxis_inverted()


@settings(max_examples=25)
@given(st.lists(st.integers(0, 10), min_size=2, max_size=40))
def test_levels_are_drawn_apart_by_at_most_a_quarter_of_a_step(levels: list[int]) -> None:
    values = series([float(level) for level in levels])
    step = min(np.diff(np.unique(values)), default=0.0)
    drawn = points(figures.scatter(values, values * 2, "judge"))
    moved = drawn - np.column_stack([values, values * 2])[np.argsort(values.index)]
    assert np.abs(moved[:, 0]).max() <= step / 4
    assert np.abs(moved[:, 1]).max() <= step / 2
    if len(set(levels)) > 1 and len(levels) > len(set(levels)):
        assert len(np.unique(drawn, axis=0)) == len(levels)  # ties are seen


def test_continuous_values_are_drawn_where_they_are() -> None:
    values = series(list(np.linspace(0, 1, 60)))
    assert points(figures.scatter(values, values, "metric"))[:, 0] == pytest.approx(values.sort_index())


def test_a_constant_judge_can_be_drawn() -> None:
    figure = figures.scatter(series([1.0, 2.0, 3.0]), series([5.0, 5.0, 5.0]), "constant")
    assert len(points(figure)) == 3


def test_forest_puts_the_highest_on_top_with_its_interval() -> None:
    rows = pd.DataFrame(
        {
            "evaluator": ["b", "a", "none"],
            "value": [0.2, 0.8, np.nan],
            "low": [0.1, 0.7, np.nan],
            "high": [0.3, 0.9, np.nan],
            "highlight": [False, True, True],
        }
    )
    axes = figures.forest(rows, "Spearman", limits=(-1, 1), level=0.9).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert ([0.7, 0.9], [1, 1]) in [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert {line.get_marker() for line in axes.lines} >= {"o", "s"}
    assert axes.get_xlim() == (-1, 1)
    assert axes.get_xlabel() == "Spearman, 90% interval"


def test_reward_curve_draws_the_best_constant_answer_as_a_horizontal_line() -> None:
    curve = pd.DataFrame({"step": range(10), "reward": np.linspace(0.4, 0.8, 10), "best_constant_reward": 0.718})
    figure = figures.reward_curve(curve)
    assert any(y == [pytest.approx(0.718)] * 2 for _, y in lines(figure))
    assert len(figure.axes) == 1
    assert len(figures.reward_curve(curve.assign(zero_variance_groups=0.3)).axes) == 2


def test_loss_curve_skips_nulls_of_validation() -> None:
    curve = pd.DataFrame(
        {"step": [0, 1, 2, 3], "loss": [3.0, 2.0, 1.5, 1.2], "validation_loss": [3.1, np.nan, np.nan, 1.3]}
    )
    drawn = lines(figures.loss_curve(curve))
    assert ([0, 1, 2, 3], [3.0, 2.0, 1.5, 1.2]) in drawn
    assert ([0, 3], [3.1, 1.3]) in drawn


def test_bins_stand_in_numeric_order_and_bars_have_their_counts() -> None:
    rows = pd.DataFrame({"bin": ["N/A", "10", "9-10", "0-1"], "before": [4, 3, 2, 1], "after": [0, 7, 8, 9]})
    axes = figures.rebalancing_bars(rows, "score").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0-1", "9-10", "10", "N/A"]
    assert [[bar.get_height() for bar in bars] for bars in axes.containers] == [[1, 2, 3, 4], [9, 8, 7, 0]]  # type: ignore[union-attr]


def test_svg_is_one_element_with_its_own_ids_and_no_fixed_colours() -> None:
    people = series(list(np.linspace(1, 5, 20)))
    svg = str(figures.to_svg(figures.scatter(people, people, "a < b"), "key", 'says "a" < b'))
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == 'says "a" < b'
    assert "width" not in root.attrib
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert ids
    assert all(one.startswith("key-") for one in ids)
    assert all(reference in ids for reference in re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert "var(--accent)" in svg
    assert not re.findall(r"(?:fill|stroke|color)\s*[:=]\s*\"?#[0-9a-fA-F]{3,6}", svg)  # every colour follows the page


def test_many_points_are_one_small_picture() -> None:
    rng = np.random.default_rng(0)
    people = series(list(rng.normal(size=5000)))
    svg = figures.to_svg(figures.scatter(people, people + 1, "many"), "many", "many points")
    assert "data:image/png;base64," in svg
    assert len(svg) < 120_000
