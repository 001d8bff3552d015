"""Figures of a report as matplotlib Figures, and their inline SVG.

Widths and heights are given in CSS pixels at the size shown: a font of size 11 is read as 11 px. Figures are narrow
panels that a page sets side by side, so that the same figure is legible on a telephone and on a wide screen. The few
colours are names of roles; ``to_svg`` replaces them by CSS variables, so that a page can show the figure on a
dark ground.
"""

from __future__ import annotations

import io
import math
import re
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, RULE, ACCENT, SECOND, PAPER = "#1b1f24", "#68707a", "#d9dde2", "#1f5fa8", "#b3541e", "#fdfdfb"
_ROLES = {PAPER: "--paper", INK: "--ink", MUTED: "--muted", RULE: "--rule", ACCENT: "--accent", SECOND: "--second"}
_RASTER = "#4a86c5"  # a mid-tone that reads on light and dark, because pixels cannot follow a CSS variable
_MAX_VECTOR_POINTS = 400  # above this a panel's points are one small picture instead of as many SVG nodes
_SHARES = {
    "zero_variance_groups": ("share of groups without a difference", INK, "-"),
    "unparsed": ("share of answers unparsed", SECOND, ":"),
}
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the layout is the same everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "axes.linewidth": 0.8,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "axes.axisbelow": True,
}


def _panel(width: int, height: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _finish(axes: Axes, grid: str) -> None:
    sns.despine(ax=axes)
    axes.grid(axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=3)


def _jitter(values: pd.Series, rng: np.random.Generator) -> pd.Series:
    """``values`` moved by at most a quarter of their smallest step where they are few levels, so that ties are seen."""
    levels = np.unique(values)
    if not 1 < len(levels) <= 30:
        return values
    return values + rng.uniform(-0.25, 0.25, len(values)) * float(np.diff(levels).min())


def _on_scale(judge: pd.Series, scale: tuple[float, float]) -> bool:
    """Whether the judge plainly uses the raters' scale: all its scores are on it, and they span at least half of it."""
    low, high = scale
    return bool(low <= judge.min() and judge.max() <= high and judge.max() - judge.min() >= (high - low) / 2)


def scatter(
    people: pd.Series,
    judge: pd.Series,
    title: str,
    note: str = "",
    label: str = "People’s mean",
    scale: tuple[float, float] | None = None,
    falling: bool = False,
) -> Figure:
    """One evaluator's scores (y) against people's means (x), one point an item.

    The line is the least-squares line. The dotted identity is drawn only where both use one scale. Few-levelled values
    are jittered by at most a quarter of their smallest step, with a fixed seed; the line is fitted to the values
    themselves.

    Args:
        people: people's mean of each item, by item.
        judge: the evaluator's score, by item; items that one of the two lacks are left out.
        title: name of the evaluator.
        note: a short text at the upper right, such as the coefficient.
        label: label of the x axis.
        falling: low scores mean good images, so the y axis is turned over.
        scale: the lowest and the highest rating that people could give; without it no identity is drawn.
    """
    both = pd.concat({"people": people, "judge": judge}, axis=1).dropna().sort_index()
    rng = np.random.default_rng(0)
    many = len(both) > _MAX_VECTOR_POINTS
    with mpl.rc_context(_STYLE):
        figure, axes = _panel(330, 290)
        if len(both) > 1 and both["people"].nunique() > 1:
            if scale is not None and _on_scale(both["judge"], scale):
                axes.plot(scale, scale, color=MUTED, linewidth=1, linestyle=":", zorder=1)
            sns.regplot(
                data=both,
                x="people",
                y="judge",
                ax=axes,
                scatter=False,
                ci=None,
                truncate=True,
                color=SECOND,
                line_kws={"linewidth": 1.6},
            )
        axes.scatter(
            _jitter(both["people"], rng),
            _jitter(both["judge"], rng),
            s=11 if many else 14,
            alpha=0.5 if many else 0.55,
            linewidth=0,
            color=_RASTER if many else ACCENT,
            rasterized=many,
            zorder=2,
        )
        axes.set_title(title, fontweight="bold")
        axes.set_title(note, loc="right", fontsize=9.5, color=MUTED)
        axes.set_xlabel(label)
        axes.set_ylabel("Evaluator’s score")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if falling:
            axes.invert_yaxis()
        _finish(axes, "both")
    return figure


def forest(
    rows: pd.DataFrame, label: str, limits: tuple[float, float] | None = None, title: str = "", level: float = 0.95
) -> Figure:
    """Agreement of each evaluator as a point with its interval, the highest on top.

    Args:
        rows: columns ``evaluator``, ``value``, ``low``, ``high`` and, where some stand out, ``highlight`` (bool: filled
            round marks; the others are open squares, so that nothing rests on colour alone). Rows without a value are
            left out.
        label: name of the statistic.
        limits: range of the x axis, to draw several figures alike.
        title: what the figure is about, such as the dimension.
        level: confidence level of the intervals.
    """
    drawn = rows.dropna(subset=["value"]).sort_values(["value", "evaluator"]).reset_index(drop=True)
    highlight = list(drawn["highlight"]) if "highlight" in drawn else [True] * len(drawn)
    with mpl.rc_context(_STYLE):
        figure, axes = _panel(400, 74 + 24 * len(drawn))
        axes.axvline(0, color=MUTED, linewidth=0.9)
        for position, row in enumerate(drawn.to_dict("records")):
            color = ACCENT if highlight[position] else MUTED
            axes.plot([row["low"], row["high"]], [position, position], color=color, linewidth=2, solid_capstyle="butt")
            axes.plot(
                row["value"],
                position,
                marker="o" if highlight[position] else "s",
                markersize=6.5,
                color=color,
                markerfacecolor=color if highlight[position] else PAPER,
            )
        axes.set_yticks(range(len(drawn)), list(drawn["evaluator"]))
        axes.set_ylim(-0.6, len(drawn) - 0.4)
        if limits is not None:
            axes.set_xlim(*limits)
        axes.set_xlabel(f"{label}, {100 * level:g}% interval")
        axes.set_title(title, fontweight="bold")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        _finish(axes, "x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return figure


def loss_curve(curve: pd.DataFrame) -> Figure:
    """SFT loss over steps; ``curve`` has ``step``, ``loss`` and perhaps ``validation_loss``; nulls are skipped."""
    with mpl.rc_context(_STYLE):
        figure, axes = _panel(400, 280)
        train = curve.dropna(subset=["loss"])
        sns.lineplot(x=train["step"], y=train["loss"], ax=axes, color=ACCENT, linewidth=1.4, label="training")
        if "validation_loss" in curve and curve["validation_loss"].notna().any():
            held = curve.dropna(subset=["validation_loss"])
            sns.lineplot(
                x=held["step"],
                y=held["validation_loss"],
                ax=axes,
                color=SECOND,
                linewidth=1.6,
                linestyle="--",
                marker="o",
                markersize=5,
                markeredgewidth=0,
                label="validation",
            )
        axes.set(xlabel="Step", ylabel="Loss (nats per token)")
        axes.set_title("SFT", fontweight="bold")
        axes.legend(loc="upper right")
        _finish(axes, "y")
    return figure


def reward_curve(curve: pd.DataFrame) -> Figure:
    """GRPO reward over steps, with the reward of the best constant answer as a horizontal line.

    Args:
        curve: columns ``step``, ``reward`` and, where measured, ``reward_std`` (drawn as a band of one standard
            deviation), ``best_constant_reward`` (its mean is drawn), and ``zero_variance_groups`` and ``unparsed``
            (shares from 0 to 1, in a panel below).
    """
    curve = curve.dropna(subset=["reward"])
    shares = [name for name in _SHARES if name in curve and curve[name].notna().any()]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(400 / 72, (400 if shares else 310) / 72), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(
            2 if shares else 1, 1, sharex=True, squeeze=False, height_ratios=[2.6, 1] if shares else None
        )
        _rewards(grid[0, 0], curve)
        for name in shares:
            below = grid[1, 0]
            label, color, style = _SHARES[name]
            sns.lineplot(
                x=curve["step"], y=curve[name], ax=below, color=color, linewidth=1.2, linestyle=style, label=label
            )
            below.set(ylabel="Share", ylim=(-0.03, 1.03))
            below.set_yticks([0, 0.5, 1])
            _finish(below, "y")
        figure.legend(loc="outside lower left", ncols=2, columnspacing=1.2, handlelength=1.8)
        for axes in grid[:, 0]:
            if axes.get_legend() is not None:
                axes.get_legend().remove()
        grid[0, 0].set_xlabel("")
        grid[-1, 0].set_xlabel("Step")
    return figure


def _rewards(axes: Axes, curve: pd.DataFrame) -> None:
    """The mean reward, smoothed over a twentieth of the steps, its spread, and the line to beat."""
    window = max(1, len(curve) // 20)
    if "reward_std" in curve:
        low, high = curve["reward"] - curve["reward_std"], curve["reward"] + curve["reward_std"]
        axes.fill_between(
            curve["step"], low, high, color=ACCENT, alpha=0.12, linewidth=0, label="± 1 s.d. within a group"
        )
    if window > 1:
        sns.lineplot(x=curve["step"], y=curve["reward"], ax=axes, color=ACCENT, linewidth=0.8, alpha=0.4)
    smooth = curve["reward"].rolling(window, min_periods=1).mean()
    label = f"mean reward, {window} steps" if window > 1 else "mean reward"
    sns.lineplot(x=curve["step"], y=smooth, ax=axes, color=ACCENT, linewidth=1.8, label=label)
    if "best_constant_reward" in curve and curve["best_constant_reward"].notna().any():
        constant = float(curve["best_constant_reward"].mean())
        axes.axhline(
            constant, color=SECOND, linewidth=1.5, linestyle="--", label=f"best constant answer: {constant:.3f}"
        )
    axes.set_ylabel("Reward")
    axes.set_title("GRPO", fontweight="bold")
    _finish(axes, "y")


def bin_order(name: object) -> tuple[float, str]:
    """Sort key of a score bin: by its first number; a bin without one, such as N/A, comes last."""
    match = re.search(r"\d+(?:\.\d+)?", str(name))
    return (float(match.group()) if match else math.inf, str(name))


def rebalancing_bars(rows: pd.DataFrame, title: str) -> Figure:
    """Numbers of training examples in each score bin before and after, for one task and aspect.

    Args:
        rows: columns ``bin``, ``before``, ``after``.
        title: the task and aspect.
    """
    rows = rows.sort_values("bin", key=lambda column: column.map(bin_order))
    long = rows.assign(bin=rows["bin"].astype(str)).melt(
        id_vars="bin", value_vars=["before", "after"], var_name="when", value_name="examples"
    )
    with mpl.rc_context(_STYLE):
        figure, axes = _panel(400, 240)
        sns.barplot(
            data=long,
            x="bin",
            y="examples",
            hue="when",
            palette={"before": RULE, "after": ACCENT},
            saturation=1,
            edgecolor=MUTED,
            linewidth=0.6,
            errorbar=None,
            ax=axes,
        )
        axes.set(xlabel="Score bin", ylabel="Examples")
        axes.set_title(title, fontweight="bold")
        axes.legend(title=None, loc="upper right", ncols=2)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.margins(y=0.22)
        _finish(axes, "y")
    return figure


def to_svg(figure: Figure, key: str, alt: str) -> Markup:
    """``figure`` as an inline SVG element.

    Args:
        figure: what to draw.
        key: a name that no other figure of the page has; the ids inside the SVG begin with it.
        alt: what the figure shows, for readers who do not see it.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": key}):
        figure.savefig(
            buffer, format="svg", dpi=180, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{key}-", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", svg)
    for color, variable in _ROLES.items():
        svg = svg.replace(color, f"var({variable})")
    svg = re.sub(r'\s(?:width|height)="[^"]*pt"', "", svg, count=2)  # the page gives the size, the viewBox the shape
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
    return Markup(re.sub(r"\s*\n\s*", "\n", svg))
