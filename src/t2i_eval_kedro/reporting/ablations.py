"""The ablation table: one HTML page that sets every variant beside the first, and says which claims of the papers hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from t2i_eval_kedro.reporting import figures, pages
from t2i_eval_kedro.reporting.inputs import plain, statistic_label
from t2i_eval_kedro.reporting.tables import number


@dataclass(frozen=True)
class Claim:
    """What a paper says, as a difference that is to be positive: the agreement of ``a`` minus that of ``b``, by the score ``by``.

    ``by`` is one of :data:`t2i_eval_kedro.studies.SCORES`: the free-form score, but where a claim is about answers that are no free text.
    """

    text: str
    source: str
    a: str
    b: str
    by: str = "free_form"


CLAIMS = (
    Claim("Judging in sub-tasks beats one request for everything.", "T2I-Eval", "full", "no_decomposition"),
    Claim("Sub-tasks as examples of their own beat one long conversation.", "T2I-Eval", "full", "no_subtasks"),
    Claim("Rebalancing the scores as published helps.", "T2I-Eval", "official", "no_rebalancing"),
    Claim("Our recipe teaches more than T2I-Eval's as published.", "ours", "full", "paper"),
    Claim("Distilling the stages that need no image, on further prompts, helps.", "ours", "full", "no_text_only"),
    Claim("Rehearsing general questions helps.", "ours", "full", "no_rehearsal"),
    Claim("Words as levels beat numerals.", "Q-Align, iMatch", "levels", "full", "request"),
    Claim(
        "The distribution of ratings teaches more than their mean.",
        "DeQA-Score, NTIRE 2025",
        "soft_levels",
        "human_labels",
        "request",
    ),
    Claim("Weighing prompts by the variance of their scores helps.", "EvalMuse", "variance_weight", "full"),
    Claim("People's scores teach more than a teacher's.", "EvalAlign", "human_labels", "full", "request"),
    Claim("A student of labels rated again judges better.", "EvalMuse", "second_round", "human_labels", "request"),
    Claim(
        "Asking for and against an element beats asking for it.", "PN-VQA", "negative_elements", "elements", "expected"
    ),
    Claim("More training prompts help (all against a tenth).", "EvalAlign, EvalMuse", "full", "size_10"),
    Claim("Training on a generator's images helps to judge that generator.", "ours", "full", "unseen_generators"),
)


def pairs(variants: Sequence[str], first: str) -> list[tuple[str, str]]:
    """What to compare: every variant with the first, and what the claims need besides."""
    compared = [(name, first) for name in variants if name != first]
    of_claims = [(claim.a, claim.b) for claim in CLAIMS if {claim.a, claim.b} <= set(variants) - {first}]
    return compared + [pair for pair in of_claims if pair not in compared]


def judge_claims(differences: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Each claim whose variants were compared, with its difference and verdict: ``holds``, ``fails`` or ``open``.

    A claim holds (or fails) where the whole interval lies above (below) zero and the corrected p is below 0.05. It stays open where
    there are too few prompts for an interval.

    Args:
        differences: score (:data:`t2i_eval_kedro.studies.SCORES`) -> its differences.
    """
    measured = {
        (by, entry["a"], entry["b"]): entry
        for by, entries in differences.items()
        for entry in entries
        if entry["difference"] is not None
    }
    rows = []
    for claim in CLAIMS:
        entry, sign = measured.get((claim.by, claim.a, claim.b)), 1
        if entry is None:
            entry, sign = measured.get((claim.by, claim.b, claim.a)), -1
        if entry is None:
            continue
        value, low, high, p_holm = sign * entry["difference"], None, None, entry.get("p_holm")
        verdict = "open"
        if entry["low"] is not None:  # there is no interval of few prompts
            low, high = sorted((sign * entry["low"], sign * entry["high"]))
            sure = p_holm is not None and p_holm < 0.05
            verdict = "holds" if low > 0 and sure else "fails" if high < 0 and sure else "open"
        rows.append(
            {
                "text": claim.text,
                "source": claim.source,
                "a": claim.a,
                "b": claim.b,
                "by": claim.by,
                "seeds": entry["seeds"],
                "difference": value,
                "low": low,
                "high": high,
                "p_holm": p_holm,
                "verdict": verdict,
            }
        )
    return rows


def build_ablations(result: Mapping[str, Any]) -> str:
    """The page of a study as one HTML string, without scripts and without anything to fetch.

    Args:
        result: as ``kedro ablations`` writes it: ``study``, ``benchmark``, ``synthetic``, ``dimension``, ``statistic``,
            ``level``, ``first``, ``seeds`` (variant -> seeds), ``variants`` (variant -> ``steps``, ``examples``, ``distinct``,
            ``seconds``, ``measured_on``), ``scores`` (score -> ``title``, ``figures``, ``differences``, ``readable``), ``slices``
            (name -> ``title``, ``n``, ``scores``), ``claims`` and ``missing`` runs.
    """
    main = next(iter(result["scores"].values()))
    rows = [_row(name, result["scores"], result) for name in result["variants"]]
    drawn = pd.DataFrame(
        {"evaluator": name, "highlight": name != result["first"], **main["figures"][name]}
        for name in result["variants"]
        if name in main["figures"]
    )
    figure = figures.forest(drawn, statistic_label(result["statistic"]), title=plain(result["dimension"]))
    templates = pages.environment()
    templates.filters["cell"] = cell
    return templates.get_template("ablations.html.jinja").render(
        result=result,
        rows=rows,
        titles={name: column["title"] for name, column in result["scores"].items()},
        figure=figures.to_svg(
            figure, "variants", "Agreement of each variant with its interval; the table has the figures."
        ),
        slices=[
            {
                "title": part["title"],
                "n": part["n"],
                "columns": list(part["scores"]),
                "rows": [_row(name, part["scores"], result) for name in result["variants"]],
            }
            for part in result["slices"].values()
        ],
        counts={
            verdict: sum(c["verdict"] == verdict for c in result["claims"]) for verdict in ("holds", "fails", "open")
        },
    )


def _row(variant: str, scores: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """One variant's figure and difference to the first by each score; None where it has no such score."""
    by = {}
    for name, column in scores.items():
        of_first = ((e["a"], e["b"]) == (variant, result["first"]) for e in column["differences"])
        difference = next((e for e, same in zip(column["differences"], of_first, strict=True) if same), None)
        by[name] = {
            "agreement": column["figures"].get(variant),
            "difference": difference,
            "readable": column.get("readable", {}).get(variant),
        }
    return {"variant": variant, "scores": by, "facts": result["variants"][variant], "seeds": result["seeds"][variant]}


def cell(figure: Mapping[str, Any] | None, name: str = "value", *, signed: bool = False) -> str:
    """A figure with its interval as text; a dash with the reason where it is undefined."""
    if figure is None:
        return "–"
    if figure[name] is None:
        return f"– ({figure['reason']})"
    value = f"{figure[name]:+.3f}".replace("-", "−") if signed else number(figure[name])
    return f"{value} {pages.interval(figure)}" if figure["low"] is not None else value
