"""Sentences that the figures support, and those that they do not: computed from the numbers, never written by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from t2i_eval_kedro.reporting import tables
from t2i_eval_kedro.reporting.inputs import (
    ReportInputs,
    describe,
    order_dimensions,
    order_statistics,
    ordered,
    plain,
    role,
    statistic_label,
)

FEW_PROMPTS = 30  # below this a percentile bootstrap over prompts is itself uncertain
WIDE_INTERVAL = 0.2
_TRAINED = ("sft", "grpo")


@dataclass(frozen=True)
class Subject:
    """What the report is about: the figures in tidy form and what they are measured on.

    Attributes:
        benchmark: its name.
        synthetic: whether images and raters are simulated; None where the data card does not say.
        dimension: the dimension that the headline is about; None where nothing was measured.
        statistic: the statistic that the headline is about; None where nothing was measured.
        agreement: see ``tables.agreement``.
        differences: see ``tables.differences``.
        counts: see ``tables.counts``.
        prompts: number of prompts behind the figures, 0 where unknown.
        raters: number of people who rated, 0 where only means are known.
        trained: whether the judge trained here is among the evaluators.
    """

    benchmark: str
    synthetic: bool | None
    dimension: str | None
    statistic: str | None
    agreement: pd.DataFrame
    differences: pd.DataFrame
    counts: pd.DataFrame
    prompts: int
    raters: int
    trained: bool

    @property
    def who(self) -> str:
        """Who rated: "people", or "simulated raters" where the data is synthetic."""
        return "simulated raters" if self.synthetic else "people"

    @property
    def whose(self) -> str:
        """``who`` in the possessive."""
        return "simulated raters’" if self.synthetic else "people’s"

    def target(self) -> str:
        """What the headline's figure compares with."""
        return f"{self.whose} {plain(self.dimension or '')} ratings"

    def cells(self) -> pd.DataFrame:
        """The defined figures of the headline's dimension and statistic, highest first, indexed by evaluator."""
        frame = self.agreement
        chosen = frame[(frame["dimension"] == self.dimension) & (frame["statistic"] == self.statistic) & frame["value"].notna()]
        return chosen.sort_values(["value", "evaluator"], ascending=[False, True]).set_index("evaluator")

    def lead(self) -> str | None:
        """The evaluator that the report follows: the judge after SFT, else after GRPO, else the highest figure.

        The order is fixed beforehand, so that the trained judge is not picked by its result.
        """
        cells = self.cells()
        return next((name for name in (*_TRAINED, *cells.index) if name in cells.index), None)


def dimensions(inputs: ReportInputs) -> list[str]:
    """The measured dimensions in reading order, the headline's first."""
    names = order_dimensions(list(tables.agreement(inputs.summary)["dimension"]))
    return ordered(names, [str(inputs.summary["primary"])] if inputs.summary.get("primary") else [])


def subject(inputs: ReportInputs) -> Subject:
    """What ``inputs`` is about."""
    summary = inputs.summary
    agreement = tables.agreement(summary)
    rated = inputs.ratings["item_id"].unique()
    raters = set(inputs.ratings["rater_id"]) - {"mean"}
    synthetic = inputs.card.get("synthetic", summary.get("synthetic"))
    return Subject(
        benchmark=str(summary.get("benchmark", inputs.card.get("name", "unnamed benchmark"))),
        synthetic=None if synthetic is None else bool(synthetic),
        dimension=next(iter(dimensions(inputs)), None),
        statistic=next(iter(order_statistics(list(agreement["statistic"]))), None),
        agreement=agreement,
        differences=tables.differences(summary),
        counts=tables.counts(summary),
        prompts=int(inputs.items.loc[inputs.items["item_id"].isin(rated), "prompt_id"].nunique()),
        raters=len(raters),
        trained=bool({role(name) for name in agreement["evaluator"]} & set(_TRAINED)),
    )


def _figure(cell: pd.Series, digits: int = 2) -> str:
    return f"{tables.number(float(cell['value']), digits)} {tables.interval(cell['low'], cell['high'], digits)}".strip()


def _named(evaluator: str) -> str:
    """The evaluator as the subject of a sentence."""
    return evaluator if role(evaluator) is None else f"the {describe(evaluator)} ({evaluator})"


def _count(n: float, singular: str) -> str:
    return f"{tables.number(int(n))} {singular}" + ("" if n == 1 else "s")


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def headline(about: Subject) -> str:
    """One sentence that answers the question with figures."""
    cells = about.cells()
    lead = about.lead()
    if lead is None or about.dimension is None or about.statistic is None:
        reasons = about.agreement["reason"].dropna()
        why = f": {reasons.iloc[0]}" if len(reasons) else ""
        return f"No agreement with {about.who} could be measured on {about.benchmark}{why}."
    kind = ("held-out " if about.trained else "") + ("synthetic " if about.synthetic else "")
    where = f"On {_count(cells.loc[lead, 'n'], kind + 'item')}"
    prompts = f" ({_count(about.prompts, 'prompt')})" if about.prompts else ""
    target = about.target()
    name = statistic_label(about.statistic)
    stages = [stage for stage in ("grpo", "base") if stage in cells.index and stage != lead]
    if role(lead) in _TRAINED:
        others = "".join(f"; the {describe(stage)} {_figure(cells.loc[stage])}" for stage in stages)
        return f"{where}{prompts} the {describe(lead)} agrees with {target} at {name} {_figure(cells.loc[lead])}{others}."
    if len(cells) == 1:
        return f"{where}{prompts} {lead} agrees with {target} at {name} {_figure(cells.loc[lead])}."
    last = cells.index[-1]
    return (
        f"{where}{prompts} the evaluator that agrees most with {target} is {lead}, at {name} "
        f"{_figure(cells.loc[lead])}; the least of the {len(cells)} is {last}, at {_figure(cells.loc[last])}."
    )


def _pair(row: pd.Series) -> str:
    return (
        f"{row['a']} minus {row['b']}, {plain(str(row['dimension']))}: "
        f"{tables.number(float(row['difference']), 2)} {tables.interval(row['low'], row['high'], 2)}"
    )


def may_conclude(about: Subject, inputs: ReportInputs) -> list[str]:
    """What the figures support, one sentence each."""
    cells, lead = about.cells(), about.lead()
    if lead is None or about.statistic is None:
        return []
    sentences = []
    name, cell = statistic_label(about.statistic), cells.loc[lead]
    if not cell["low"] <= 0 <= cell["high"]:
        direction = f"much as {about.who} do" if cell["value"] >= 0.5 else f"to some degree as {about.who} do"
        sentences.append(
            f"On items like these {_named(lead)} orders images {direction if cell['low'] > 0 else f'against {about.who}'}: its "
            f"{name} with {about.target()} is {_figure(cell)}, and the interval excludes zero."
        )
    others = about.agreement[
        (about.agreement["statistic"] == about.statistic)
        & (about.agreement["dimension"] != about.dimension)
        & (about.agreement["evaluator"] == lead)
    ]
    shown = others[(others["low"] > 0) | (others["high"] < 0)]
    if len(shown):
        parts = [f"{plain(row['dimension'])} ({_figure(row)})" for _, row in shown.iterrows()]
        sentences.append(f"On other dimensions the interval of {_named(lead)} excludes zero too: {_listed(parts)}." if sentences else
            f"Not on {plain(about.dimension or '')}, but on other dimensions the interval of {_named(lead)} excludes zero: {_listed(parts)}.")
    if len(cells) > 1:
        clear = cells[(cells["low"] > 0) | (cells["high"] < 0)]
        sentences.append(
            f"{len(clear)} of {len(cells)} evaluators have an interval on {plain(about.dimension or '')} that excludes zero."
        )
    pairs = about.differences[about.differences["statistic"] == about.statistic]
    proven = pairs[pairs["excludes_zero"]]
    if len(proven):
        first = proven[proven["dimension"] == about.dimension].head(6)
        among = f", among them {_listed([_pair(row) for _, row in first.iterrows()])}" if len(first) else ""
        verb = "excludes" if len(proven) == 1 else "exclude"
        sentences.append(f"{len(proven)} of {_count(len(pairs), 'paired difference')} in {name} {verb} zero{among}.")
    reward = _last_reward(inputs.grpo_curve)
    if reward is not None and reward[0] > reward[1]:
        sentences.append(
            f"GRPO reached a mean reward of {reward[0]:.3f} on training items, above the {reward[1]:.3f} that the best constant "
            "answer earns: the reward was not won by one answer for all."
        )
    return sentences


def _limits_of_data(about: Subject, inputs: ReportInputs) -> list[str]:
    sentences = []
    if about.synthetic:
        sentences.append(
            "These images, prompts and ratings are synthetic: drawn and rated by simulation with known faults. Nothing here "
            "says how any judge would do on images of real generators or with ratings of real people."
        )
    else:
        sentences.append(
            f"The figures hold for the prompts, generators and raters of {about.benchmark}; other generators, other kinds of "
            "prompts and other raters may give others."
        )
    if 0 < about.prompts < FEW_PROMPTS:
        sentences.append(
            f"There are only {_count(about.prompts, 'prompt')}. Intervals come from resampling prompts: with so few they are "
            "wide, and their own coverage is uncertain. Treat every figure as a first indication."
        )
    teacher = str(inputs.summary.get("teacher", inputs.card.get("teacher", inputs.provenance.get("teacher", ""))))
    if teacher == "human":
        sentences.append(
            "The teacher wrote its examples from people’s own mean scores, of training prompts only. The trained judge has "
            "learned from these very raters, though on other prompts; a judge that never saw them is at a disadvantage."
        )
    elif teacher and about.synthetic:
        sentences.append(
            "The teacher reads the truth behind each scene, not the image: its figure is an upper reference, not that of a "
            "judge that has to look."
        )
    return sentences


def _limits_of_figures(about: Subject) -> list[str]:
    sentences = []
    cells = about.cells()
    lead = about.lead()
    if lead is not None and about.statistic is not None:
        cell = cells.loc[lead]
        width = cell["high"] - cell["low"]
        name = statistic_label(about.statistic)
        if cell["low"] <= 0 <= cell["high"]:
            sentences.append(f"That {_named(lead)} agrees with {about.who} at all is not shown: the interval of its {name} includes zero.")
        elif width >= WIDE_INTERVAL:
            sentences.append(
                f"How well {_named(lead)} agrees is known only roughly: its interval is {tables.number(float(width), 2)} wide, from "
                f"{tables.number(float(cell['low']), 2)} to {tables.number(float(cell['high']), 2)}."
            )
        if role(lead) not in _TRAINED and len(cells) > 1:
            sentences.append(
                f"{lead} was named because its figure is the highest of {len(cells)}; the highest of many is on average a "
                "little too high, and a neighbour whose interval overlaps may be as good."
            )
        sizes = cells["n"]
        if sizes.nunique() > 1:
            sentences.append(
                f"Not every evaluator was measured on the same items ({tables.number(int(sizes.min()))} to "
                f"{tables.number(int(sizes.max()))} of them), so their figures are not strictly comparable; the paired "
                "differences are."
            )
    pairs = about.differences[about.differences["statistic"] == about.statistic]
    open_ = pairs[~pairs["excludes_zero"]]
    if len(open_):
        sentences.append(
            f"{'One difference includes' if len(open_) == 1 else f'{len(open_)} differences include'} zero, so neither "
            f"evaluator is shown to be better: {_listed([_pair(row) for _, row in open_.head(4).iterrows()])}"
            + ("." if len(open_) <= 4 else ", and the others in the table.")
        )
    if len(pairs) > 1 and not any(str(column).startswith("p_") for column in pairs):
        sentences.append(
            f"The {len(pairs)} intervals of differences are not corrected for their number: about one in twenty would exclude "
            "zero by chance alone."
        )
    elif about.statistic is not None and len(cells) > 1 and not len(pairs):
        sentences.append("No paired differences were measured, so the order of evaluators with overlapping intervals is open.")
    return sentences


def _limits_of_answers(about: Subject) -> list[str]:
    counts = about.counts[about.counts["dimension"] == about.dimension]
    shares = (counts["items"] - counts["ok"]) / counts["items"].where(counts["items"] > 0)
    poor = counts.assign(share=shares)[shares > 0.01].sort_values("share", ascending=False)
    if poor.empty:
        return []
    parts = [f"{row['evaluator']} {100 * float(row['share']):.0f}%" for _, row in poor.head(5).iterrows()]
    return [
        f"Some items have no score ({_listed(parts)}). They are counted, not imputed, and the figures are over the rest; "
        "with a verdict on every item they might be lower."
    ]


def _last_reward(curve: pd.DataFrame | None) -> tuple[float, float] | None:
    """The mean reward over the last tenth of the steps and that of the best constant answer; None where not measured."""
    if curve is None or "best_constant_reward" not in curve:
        return None
    measured = curve.dropna(subset=["reward", "best_constant_reward"])
    last = measured.tail(max(1, len(measured) // 10))
    return None if last.empty else (float(last["reward"].mean()), float(measured["best_constant_reward"].mean()))


def _limits_of_training(curve: pd.DataFrame | None) -> list[str]:
    reward = _last_reward(curve)
    if reward is None or reward[0] > reward[1]:
        return []
    return [
        f"That GRPO taught the judge to tell images apart is not shown: its last mean reward, {reward[0]:.3f}, is not above the "
        f"{reward[1]:.3f} that the best constant answer earns."
    ]


def may_not_conclude(about: Subject, inputs: ReportInputs) -> list[str]:
    """What the figures do not support, one entry each."""
    sentences = [
        *_limits_of_data(about, inputs),
        *_limits_of_figures(about),
        *_limits_of_answers(about),
        *_limits_of_training(inputs.grpo_curve),
    ]
    if about.trained:
        sentences.append(
            f"One seed ({inputs.summary.get('seed', 'not recorded')}) was run. The intervals cover the choice of prompts, not "
            "what another seed of training would give."
        )
    sentences.append(
        "Agreement is about order, not about value: a judge may rank images as its raters do and still score all of them too high."
    )
    return sentences


def sizes(about: Subject, inputs: ReportInputs) -> list[tuple[str, str]]:
    """The few sizes that stand under the title, as (value, unit) pairs."""
    generators: Any = inputs.items["generator"].nunique()
    pairs = [
        (len(inputs.items), "item"),
        (about.prompts, "prompt"),
        (int(generators), "generator"),
        (about.raters, "rater"),
        (about.agreement["evaluator"].nunique(), "evaluator"),
    ]
    return [(tables.number(int(n)), unit if n == 1 else unit + "s") for n, unit in pairs if n]
