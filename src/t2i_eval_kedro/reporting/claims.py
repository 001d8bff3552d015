"""Sentences that the figures support, and those that they do not: computed from the numbers, never written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.diagnostics import score_variety
from t2i_eval_kedro.reporting import tables
from t2i_eval_kedro.reporting.inputs import (
    ReportInputs,
    evaluator_title,
    order_dimensions,
    order_statistics,
    ordered,
    plain,
    role,
    statistic_label,
)
from t2i_eval_kedro.schema import BASE, GRPO, OK, SFT

FEW_PROMPTS = 30  # below this a percentile bootstrap over prompts is itself uncertain
WIDE_INTERVAL = 0.2
LEAST_COVERAGE = 0.5
"""An evaluator that scored a smaller share of the rated items is never called best, and comes after the others."""
FEW_EXAMPLES = 200
_TRAINED = (SFT, GRPO)


@dataclass(frozen=True)
class Estimate:
    """One figure with its interval; ``low`` and ``high`` are NaN where there is none, ``n`` counts items."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Print to two decimals, with the interval."""
        return f"{tables.number(self.value, 2)} {tables.interval(self.low, self.high, 2)}".strip()

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and zero lies outside it."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class ReportContext:
    """What the report is about: the figures in tidy form and what they are measured on.

    Attributes:
        benchmark: its name.
        synthetic: whether images and raters are simulated; None where nothing says so.
        dimension: the dimension that the headline is about; empty where nothing was measured.
        statistic: the statistic that the headline is about; empty where nothing was measured.
        judges: judge and protocol of each evaluator.
        agreement: see ``tables.agreement``.
        differences: see ``tables.differences``.
        counts: see ``tables.counts``.
        prompts: number of prompts behind the figures, 0 where unknown.
        raters: number of people who rated, 0 where only means are known.
        trained: whether a judge trained here is among the evaluators.
        held_out: whether the items were kept from its training.
        level: confidence level of the intervals.
        resamples: bootstrap resamples and random permutations behind intervals and p-values, 0 where unknown.
        best_untrained: ``evaluator``, the untrained model by the protocol that was best on validation prompts, and the ``candidates``;
            empty where none was chosen.
    """

    benchmark: str
    synthetic: bool | None
    dimension: str
    statistic: str
    judges: Mapping[str, tuple[str, str | None]]
    agreement: pd.DataFrame
    differences: pd.DataFrame
    counts: pd.DataFrame
    prompts: int
    raters: int
    trained: bool
    held_out: bool
    level: float
    resamples: int
    best_untrained: Mapping[str, Any]

    @property
    def who(self) -> str:
        """Who rated: "people", or "simulated raters" where the data is synthetic."""
        return "simulated raters" if self.synthetic else "people"

    @property
    def target(self) -> str:
        """What the headline's figure compares with."""
        return f"{'simulated raters’' if self.synthetic else 'people’s'} {plain(self.dimension)} ratings"

    def title(self, evaluator: str) -> str:
        """The evaluator in plain words."""
        title = evaluator_title(*self.judges[evaluator])
        if evaluator != self.best_untrained.get("evaluator"):
            return title
        names = " and ".join(str(row["protocol"]) for row in self.best_untrained["candidates"])
        return f"{title}, the best of {names} on validation prompts"

    def is_trained(self, evaluator: str) -> bool:
        """Whether the evaluator's judge was trained here."""
        return role(*self.judges[evaluator]) in _TRAINED

    def named(self, evaluator: str) -> str:
        """The evaluator as the report_context of a sentence."""
        if role(*self.judges[evaluator]) is None:
            return evaluator
        return f"the {self.title(evaluator)} ({evaluator})"

    def cells(self, dimension: str | None = None) -> dict[str, Estimate]:
        """The defined figures of the headline's statistic by evaluator, highest first; on the headline's dimension."""
        frame = self.agreement
        chosen = frame[(frame["dimension"] == (dimension or self.dimension)) & (frame["statistic"] == self.statistic)]
        chosen = chosen[chosen["value"].notna()].sort_values(["value", "evaluator"], ascending=[False, True])
        return {
            str(row["evaluator"]): Estimate(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))
            for row in chosen.to_dict("records")
        }

    def comparable(self, dimension: str | None = None) -> set[str]:
        """The evaluators that may be called best: no teacher that reads the truth, and none that left most items unscored."""
        counts = self.counts[(self.counts["dimension"] == (dimension or self.dimension)) & (self.counts["items"] > 0)]
        sparse = counts.loc[counts[OK] / counts["items"] < LEAST_COVERAGE, "evaluator"]
        oracles = {name for name in self.agreement["evaluator"] if self.synthetic and name.split("_")[0] == "teacher"}
        return set(self.agreement["evaluator"]) - set(sparse) - oracles

    def lead(self) -> str | None:
        """The evaluator that the report follows: the judge after SFT, else after GRPO, else the highest figure.

        The order is fixed beforehand, so that the trained judge is not picked by its result.
        """
        cells = self.cells()
        comparable = [name for name in cells if name in self.comparable()]
        return next((name for name in (*_TRAINED, *comparable, *cells) if name in cells), None)

    def pairs(self) -> pd.DataFrame:
        """The paired differences with an interval in the headline's dimension and statistic, the followed evaluator first."""
        frame = self._main_differences()
        return tables.oriented(frame[frame["low"].notna()], self.lead())

    def pairs_without_interval(self) -> int:
        """How many paired differences in the headline's dimension and statistic have a figure, and too few prompts for an interval."""
        return int(self._main_differences()["low"].isna().sum())

    def _main_differences(self) -> pd.DataFrame:
        frame = self.differences
        main = (frame["statistic"] == self.statistic) & (frame["dimension"] == self.dimension)
        return frame[main & frame["difference"].notna()]


def dimensions(inputs: ReportInputs) -> list[str]:
    """The measured dimensions in reading order, the headline's first; else in the order of the data card."""
    card = inputs.card.get("dimensions") or []
    described = [one["name"] for one in card if isinstance(one, Mapping) and "name" in one]
    names = order_dimensions(ordered(list(tables.agreement(inputs.summary)["dimension"]), described))
    return ordered(names, [str(inputs.summary["primary"])] if inputs.summary.get("primary") else [])


def report_context(inputs: ReportInputs) -> ReportContext:
    """What ``inputs`` is about."""
    summary = inputs.summary
    agreement = tables.agreement(summary)
    dimension = next(iter(dimensions(inputs)), "")
    data: Mapping[str, Any] = summary.get("data", {}).get(dimension, {})
    settings: Mapping[str, Any] = summary.get("settings", {})
    rated = inputs.items["item_id"].isin(inputs.ratings["item_id"])
    synthetic = inputs.card.get("synthetic", summary.get("synthetic"))
    judges = schema.evaluators_of(summary)
    trained = any(role(*judge) in _TRAINED for judge in judges.values())
    return ReportContext(
        benchmark=str(summary.get("benchmark", inputs.card.get("name", "unnamed benchmark"))),
        synthetic=None if synthetic is None else bool(synthetic),
        dimension=dimension,
        statistic=next(iter(order_statistics(list(agreement["statistic"]))), ""),
        judges=judges,
        agreement=agreement,
        differences=tables.differences(summary),
        counts=tables.counts(summary),
        prompts=int(data.get("n_prompts", inputs.items.loc[rated, "prompt_id"].nunique())),
        raters=int(data.get("n_raters", len(set(inputs.ratings["rater_id"]) - {"mean"}))),
        trained=trained,
        held_out=trained and summary.get("fold") != "all",
        level=float(settings.get("confidence", 0.95)),
        resamples=int(settings.get("n_resamples", 0)),
        best_untrained=summary.get("best_untrained") or {},
    )


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def headline(about: ReportContext) -> str:
    """One sentence that answers the question with figures."""
    cells, lead = about.cells(), about.lead()
    if lead is None:
        reasons = about.agreement["reason"].dropna()
        why = f": {reasons.iloc[0]}" if len(reasons) else ""
        return f"No agreement with {about.who} could be measured on {about.benchmark}{why}."
    kind = ("held-out " if about.held_out else "") + ("synthetic " if about.synthetic else "")
    prompts = f" ({tables.count_of(about.prompts, 'prompt')})" if about.prompts else ""
    where = f"On {tables.count_of(cells[lead].n, kind + 'item')}{prompts}"
    name = statistic_label(about.statistic)
    if about.is_trained(lead):
        stages = [stage for stage in (GRPO, BASE) if stage in cells and stage != lead]
        others = "".join(f"; the {about.title(stage)} {cells[stage]}" for stage in stages)
        return f"{where} the {about.title(lead)} agrees with {about.target} at {name} {cells[lead]}{others}."
    if len(cells) == 1:
        return f"{where} {lead} agrees with {about.target} at {name} {cells[lead]}."
    compared = [one for one in cells if one in about.comparable()] or list(cells)
    last = compared[-1]
    return (
        f"{where} the evaluator that agrees most with {about.target} is {lead}, at {name} {cells[lead]}; the least of "
        f"the {len(compared)} is {last}, at {cells[last]}."
    )


def _kept_by_holm(pairs: pd.DataFrame, level: float) -> int | None:
    """How many of ``pairs`` differ after Holm's correction; None where it was not computed."""
    return int((pairs["p_holm"] < 1 - level).sum()) if "p_holm" in pairs else None


def _some_pairs(pairs: pd.DataFrame, lead: str | None, most: int = 4) -> str:
    """A clause that names a few of ``pairs`` with their figures, those of the followed evaluator first."""
    ours = pairs["a"] == lead
    shown = pd.concat([pairs[ours], pairs[~ours]]).head(most)
    named = [
        f"{row['a']} minus {row['b']} {Estimate(float(row['difference']), row['low'], row['high'], 0)}"
        for row in shown.to_dict("records")
    ]
    return (": " if len(shown) == len(pairs) else ", among them ") + _listed(named)


def may_conclude(about: ReportContext, inputs: ReportInputs) -> list[str]:
    """What the figures support, one sentence each."""
    cells, lead = about.cells(), about.lead()
    if lead is None:
        return []
    sentences = []
    name, cell = statistic_label(about.statistic), cells[lead]
    if cell.excludes_zero:
        how = f"against {about.who}"
        if cell.value > 0:
            how = f"{'much' if cell.value >= 0.5 else 'to some degree'} as {about.who} do"
        sentences.append(
            f"On items like these {about.named(lead)} orders images {how}: its {name} with {about.target} is {cell}, and "
            "the interval excludes zero."
        )
    sentences += _other_dimensions(about, lead)
    if len(cells) > 1:
        clear = sum(cell.excludes_zero for cell in cells.values())
        sentences.append(
            f"{clear or 'None'} of {len(cells)} evaluators {'has' if clear == 1 else 'have'} an interval on "
            f"{plain(about.dimension)} that excludes zero."
        )
    sentences += _proven_differences(about, lead)
    reward = _last_reward(inputs.grpo_curve)
    if reward is not None and reward[0] > reward[1]:
        sentences.append(
            f"GRPO reached a mean reward of {reward[0]:.3f} on training items, above the {reward[1]:.3f} that the best "
            "constant answer earns."
        )
    return sentences


def _other_dimensions(about: ReportContext, lead: str) -> list[str]:
    names = [name for name in dict.fromkeys(about.agreement["dimension"]) if name != about.dimension]
    cells = {name: about.cells(name)[lead] for name in names if lead in about.cells(name)}
    shown = [f"{plain(name)} ({cell})" for name, cell in cells.items() if cell.excludes_zero]
    if not shown:
        return []
    return [f"On other dimensions the interval of {about.named(lead)} excludes zero for {_listed(shown)}."]


def _proven_differences(about: ReportContext, lead: str) -> list[str]:
    """The differences that the prompts do not explain; where p-values were corrected, only those that remain."""
    pairs = about.pairs()
    corrected = "p_holm" in pairs
    proven = pairs[pairs["excludes_zero"] & ((pairs["p_holm"] < 1 - about.level) if corrected else True)]
    if proven.empty:
        return []
    correction = f" and {'has' if len(proven) == 1 else 'have'} p below {1 - about.level:.2g} after Holm’s correction"
    return [
        f"{len(proven)} of {tables.count_of(len(pairs), 'paired difference')} in {statistic_label(about.statistic)} on "
        f"{plain(about.dimension)} {'excludes' if len(proven) == 1 else 'exclude'} zero{correction if corrected else ''}"
        f"{_some_pairs(proven, lead)}."
    ]


def may_not_conclude(about: ReportContext, inputs: ReportInputs) -> list[str]:
    """What the figures do not support, one entry each."""
    sentences = [
        *_limits_of_data(about, inputs),
        *_limits_of_figures(about),
        *_limits_of_differences(about),
        *_limits_of_answers(about),
        *_limits_of_judges(inputs.scores),
        *_limits_of_training(inputs),
    ]
    if about.trained:
        sentences.append(
            f"One seed ({inputs.summary.get('seed', 'not recorded')}) was run. The intervals cover the choice of "
            "prompts, not what another seed of training would give."
        )
    sentences.append(
        "Agreement is about order, not about value: a judge may rank images as its raters do and still score all of "
        "them too high."
    )
    return sentences


def _limits_of_data(about: ReportContext, inputs: ReportInputs) -> list[str]:
    sentences = []
    if about.synthetic:
        sentences.append(
            "These images, prompts and ratings are synthetic: drawn and rated by simulation with known faults. Nothing "
            "here says how any judge would do on images of real generators or with ratings of real people."
        )
    else:
        sentences.append(
            f"The figures hold for the prompts, generators and raters of {about.benchmark}; other generators, other "
            "kinds of prompts and other raters may give others."
        )
    if 0 < about.prompts < FEW_PROMPTS:
        sentences.append(
            f"There {'is' if about.prompts == 1 else 'are'} only {tables.count_of(about.prompts, 'prompt')}. Intervals come "
            "from resampling prompts: with so few they are wide, and their own coverage is uncertain. Treat every "
            "figure as a first indication."
        )
    teacher = str(inputs.summary.get("teacher", inputs.card.get("teacher", inputs.provenance.get("teacher", ""))))
    if teacher == "human" and about.trained:
        sentences.append(
            "The teacher wrote its examples from people’s own mean scores, of training prompts only. The trained judge "
            "has learned from these very raters, though on other prompts; a judge that never saw them is at a "
            "disadvantage."
        )
    elif about.synthetic and "teacher" in about.cells():
        sentences.append(
            "The teacher reads the truth behind each scene, not the image: its figure is an upper reference, not that "
            "of a judge that has to look."
        )
    return sentences


def _limits_of_figures(about: ReportContext) -> list[str]:
    cells, lead = about.cells(), about.lead()
    if lead is None:
        return []
    sentences = []
    cell, name = cells[lead], statistic_label(about.statistic)
    width = cell.high - cell.low
    if cell.low <= 0 <= cell.high:
        sentences.append(
            f"That {about.named(lead)} agrees with {about.who} at all is not shown: the interval of its {name} includes "
            "zero."
        )
    elif width >= WIDE_INTERVAL:
        sentences.append(
            f"How well {about.named(lead)} agrees is known only roughly: its interval is {tables.number(width, 2)} wide, "
            f"from {tables.number(cell.low, 2)} to {tables.number(cell.high, 2)}."
        )
    if not about.is_trained(lead) and len(cells) > 1:
        sentences.append(
            f"{lead} was named because its figure is the highest of {len(cells)}; the highest of many is on average a "
            "little too high, and a neighbour whose interval overlaps may be as good."
        )
    sizes = {cell.n for cell in cells.values()}
    if len(sizes) > 1:
        sentences.append(
            f"Not every evaluator was measured on the same items ({tables.number(min(sizes))} to "
            f"{tables.number(max(sizes))} of them), so their figures are not strictly comparable; the paired "
            "differences are."
        )
    return sentences


def _limits_of_differences(about: ReportContext) -> list[str]:
    pairs, lead = about.pairs(), about.lead()
    if pairs.empty:
        if len(about.cells()) < 2:
            return []
        return ["No paired differences were measured, so the order of evaluators with overlapping intervals is open."]
    sentences = []
    undecided = pairs[~pairs["excludes_zero"]]
    if len(undecided):
        what = "One paired difference includes"
        if len(undecided) > 1:
            what = f"{len(undecided)} paired differences include"
        sentences.append(f"{what} zero, so neither evaluator is shown to be better{_some_pairs(undecided, lead)}.")
    without = about.pairs_without_interval()
    if without:
        sentences.append(
            f"Too few prompts for an interval stand behind {tables.count_of(without, 'paired difference')}; nothing follows from their figures."
        )
    if about.resamples and len(pairs) / (about.resamples + 1) >= 1 - about.level:
        sentences.append(
            f"The {len(pairs)} differences cannot be tested together: with {tables.count_of(about.resamples, 'random permutation')} no "
            f"p-value can fall below {1 - about.level:.2g} after a correction for their number."
        )
    elif len(pairs) > 1 and _kept_by_holm(pairs, about.level) == 0:
        sentences.append(
            f"With Holm’s correction for {len(pairs)} comparisons, no difference has a p-value below "
            f"{1 - about.level:.2g}."
        )
    elif len(pairs) > 1:
        sentences.append(
            f"The intervals of the {len(pairs)} differences are not corrected for their number: where nothing differs, "
            f"about {100 * (1 - about.level):.2g} in 100 exclude zero all the same."
        )
    return sentences


def _limits_of_answers(about: ReportContext) -> list[str]:
    counts = about.counts[(about.counts["dimension"] == about.dimension) & (about.counts["items"] > 0)]
    shares = {str(row["evaluator"]): 1 - row[OK] / row["items"] for row in counts.to_dict("records")}
    poor = sorted(((share, name) for name, share in shares.items() if share > 0.005), reverse=True)
    if not poor:
        return []
    named = [f"{name} {100 * share:.0f}%" for share, name in poor[:5]]
    return [
        f"Some items have no score ({_listed(named)}). They are counted, not imputed, and the figures are over the "
        "rest; with a verdict on every item they might be lower."
    ]


def _last_reward(curve: pd.DataFrame | None) -> tuple[float, float] | None:
    """Mean reward over the last tenth of the steps, and that of the best constant answer; None where not measured."""
    if curve is None or "best_constant_reward" not in curve:
        return None
    measured = curve.dropna(subset=["reward", "best_constant_reward"])
    last = measured.tail(max(1, len(measured) // 10))
    return None if last.empty else (float(last["reward"].mean()), float(measured["best_constant_reward"].mean()))


def _limits_of_judges(scores: pd.DataFrame) -> list[str]:
    """Evaluators that give one number on every dimension, or hardly any different ones."""
    sentences = []
    for row in score_variety(scores[~scores["judge"].isin(schema.BASELINES)]):
        if row["few"]:
            where = f" on {plain(row['dimension'])}" if row["dimension"] else ""
            sentences.append(
                f"{row['evaluator']} uses {tables.count_of(row['fewest_values'], 'different score')}{where}, so most of its items are tied."
            )
        if row["same"]:
            sentences.append(
                f"{row['evaluator']} gives one number on every dimension for {100 * row['one_score_for_all']:.0f}% of its items: its "
                "dimensions are not separate judgements."
            )
    return sentences


def _limits_of_training(inputs: ReportInputs) -> list[str]:
    sentences = []
    table, curve = inputs.rebalancing, inputs.grpo_curve
    examples = 0 if table is None or table.empty else int(table["after"].sum())
    if 0 < examples < FEW_EXAMPLES:
        sentences.append(
            f"The judge was trained on {tables.count_of(examples, 'example')} only; what it learned may be those examples."
        )
    if curve is not None and (curve.empty or not float(curve["step"].max()) > 0):
        sentences.append("GRPO took no step, so the judge after GRPO is the judge before it.")
    reward = _last_reward(curve)
    if reward is not None and reward[0] <= reward[1]:
        sentences.append(
            f"That GRPO taught the judge to tell images apart is not shown: its last mean reward, {reward[0]:.3f}, is not "
            f"above the {reward[1]:.3f} that the best constant answer earns."
        )
    return sentences


def sizes(about: ReportContext, inputs: ReportInputs) -> list[tuple[str, str]]:
    """The few sizes that stand under the title, as (value, unit) pairs."""
    rated = inputs.items[inputs.items["item_id"].isin(inputs.ratings["item_id"])]
    counted = [
        (len(rated), "rated item"),
        (about.prompts, "prompt"),
        (rated["generator"].nunique(), "generator"),
        (about.raters, "rater"),
        (about.agreement["evaluator"].nunique(), "evaluator"),
    ]
    return [(tables.number(n), unit if n == 1 else unit + "s") for n, unit in counted if n]
