"""Studies: a comparison of variants over seeds. Runs what is missing of one, and measures its variants against each other.

A run of a study is one variant with one seed, the pipeline ``ablation_run``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.across_seeds import Kept, compare_variants
from t2i_eval_kedro.agreement.rated_items import RatedItems, build
from t2i_eval_kedro.config import ExperimentConfigLoader, catalog_entries, load_config
from t2i_eval_kedro.datasets.atomic import atomic_file
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.evaluators import in_fold
from t2i_eval_kedro.pipeline_registry import ABLATION_RUN
from t2i_eval_kedro.provenance import commit
from t2i_eval_kedro.reporting.ablations import build_ablations, judge_claims, pairs

EXPECTED = ("levels", "direct_levels")
"""The protocols whose score is an expectation over levels; any other of a student gives a generated verdict."""
_DATASETS = (
    "items",
    "splits",
    "ratings",
    "elements",
    "data_card",
    "teacher_scores",
    "sft_scores",
    "sft_time",
    "summary",
)
_TOP = 0.75  # a stratum is the prompts from this quantile on


@dataclass(frozen=True)
class Study:
    """One study of one student on one benchmark.

    Attributes:
        name: name in ``studies`` of ``parameters_ablations.yml``.
        benchmark: benchmark that is measured on.
        student: student that is trained.
        variants: variants to compare; the first is what the others are compared with.
        seeds: seeds of each variant.
        env: configuration environment of the runs.
        config: the configuration that all of this comes from.
    """

    name: str
    benchmark: str
    student: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    env: str
    config: ExperimentConfigLoader

    @classmethod
    def load(cls, name: str, benchmark: str | None, student: str | None, env: str) -> Study:
        """The study ``name``, of the benchmark and student of the parameters where none is given.

        Raises:
            T2IEvalError: there is no such study, student or environment.
        """
        chosen = {"benchmark": benchmark, "student": student}
        config = load_config(Path("conf"), env, {axis: value for axis, value in chosen.items() if value})
        axes, studies = config.resolved.axes, config.resolved.parameters["studies"]
        if name not in studies:
            raise T2IEvalError(f"There is no study '{name}'; the studies are {', '.join(studies)}.")
        variants, seeds = tuple(studies[name]["variants"]), tuple(studies[name]["seeds"])
        return cls(name, axes.benchmark, axes.student, variants, seeds, env, config)

    def parameters(self, variant: str, seed: int) -> dict[str, Any]:
        """The parameters of one run."""
        return self.config.resolve(variant=f"{self.name}/{variant}", seed=seed).parameters

    def files(self, variant: str, seed: int) -> dict[str, Path]:
        """Dataset -> file of one run."""
        axes = self.config.resolve(variant=f"{self.name}/{variant}", seed=seed).axes
        entries = catalog_entries(self.config.catalog_of(asdict(axes)), _DATASETS)
        return {name: Path(entry["filepath"]) for name, entry in entries.items()}

    @property
    def folder(self) -> Path:
        """The study's report folder."""
        return self.files(self.variants[0], self.seeds[0])["summary"].parents[2]

    def missing(self) -> list[tuple[str, int]]:
        """The runs that are not complete."""
        return [
            (variant, seed)
            for variant in self.variants
            for seed in self.seeds
            if not all(self.files(variant, seed)[name].is_file() for name in ("sft_time", "sft_scores"))
        ]

    def command(self, pipelines: str, **axes: object) -> list[str]:
        """The command that runs ``pipelines`` with the study's student on its benchmark."""
        fixed: dict[str, object] = {"benchmark": self.benchmark, "student": self.student}
        given = ",".join(f"{name}={value}" for name, value in (fixed | axes).items())
        return ["kedro", "run", f"--env={self.env}", f"--pipelines={pipelines}", f"--params={given}"]


def run_missing(study: Study, jobs: int, report: Callable[[str], None]) -> None:
    """Make the missing runs, ``jobs`` at a time with one thread each; ``report`` gets each command before it starts.

    Raises:
        T2IEvalError: a run failed.
    """
    runs = study.missing()
    if not runs:
        return
    files = study.files(*runs[0])
    if not all(files[name].is_file() for name in ("items", "teacher_scores")):
        _run(study.command("ingestion,teacher_distillation"), report)
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(_run, study.command(ABLATION_RUN, variant=f"{study.name}/{variant}", seed=seed), report)
            for variant, seed in runs
        ]
        for run in waiting:
            run.result()


def _run(command: Sequence[str], report: Callable[[str], None]) -> None:
    report(" ".join(command))
    done = subprocess.run(
        [sys.executable, "-m", *command], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise T2IEvalError(f"'{' '.join(command)}' failed:\n{last}")


def measure(study: Study, *, n_resamples: int | None = None) -> dict[str, Any]:
    """The result that :func:`~t2i_eval_kedro.reporting.ablations.build_ablations` draws.

    Raises:
        T2IEvalError: fewer than two variants have all their runs.
    """
    missing = study.missing()
    variants = [variant for variant in study.variants if variant not in {variant for variant, _ in missing}]
    if len(variants) < 2 or variants[0] != study.variants[0]:
        raise T2IEvalError(
            f"Study '{study.name}' needs every seed of '{study.variants[0]}' and of another variant; make the runs with "
            "kedro ablations --jobs 2, or with dvc repro."
        )
    first = variants[0]
    files, config = study.files(first, study.seeds[0]), study.parameters(first, study.seeds[0])
    meta = config["meta_evaluation"]
    tables = {name: pd.read_parquet(files[name]) for name in ("items", "splits", "ratings", "elements")}
    card = json.loads(files["data_card"].read_text(encoding="utf-8"))
    items = in_fold(tables["items"], tables["splits"], config["judging"]["fold"])
    dimensions = [entry["name"] for entry in card["dimensions"]]
    dimension = "overall" if "overall" in dimensions else dimensions[0]
    ratings = tables["ratings"][tables["ratings"]["dimension"] == dimension]
    generated = [
        schema.SCORES.check(pd.read_parquet(study.files(variant, seed)["sft_scores"])).assign(
            run_of=f"{variant}/{seed}"
        )
        for variant in variants
        for seed in study.seeds
    ]
    scores = pd.concat(generated, ignore_index=True)
    expected = scores["protocol"].isin(EXPECTED)
    scores = scores.assign(judge=scores.pop("run_of"), protocol=None)
    samples = build(items, ratings, scores[expected])
    if dimension not in samples:
        raise T2IEvalError(f"Nobody rated '{dimension}' in the fold '{config['judging']['fold']}'.")
    sample = samples[dimension]
    for variant in variants:
        if any(f"{variant}/{seed}" not in sample.scores for seed in study.seeds):
            raise T2IEvalError(
                f"Variant '{variant}' has no expected score to compare; add levels or direct_levels to its judging.protocols."
            )
    judges = {variant: [f"{variant}/{seed}" for seed in study.seeds] for variant in variants}
    left_out = {variant: study.parameters(variant, study.seeds[0])["examples"]["leave_out"] for variant in variants}
    generators = np.array([*sample.generators, None])[sample.generator]
    unseen = {variant: np.isin(generators, names) for variant, names in left_out.items() if names}
    chosen = {"n_resamples": n_resamples or meta["n_resamples"], "confidence": meta["confidence"], "seed": meta["seed"]}
    compared = pairs(variants, first)
    strata: dict[str, Any] = {}
    for name, (title, rows) in {
        "all": ("All held-out prompts", None),
        **_strata(sample, items, tables["elements"]),
    }.items():
        kept = dict(unseen) if rows is None else {variant: rows & unseen.get(variant, True) for variant in variants}
        figures, differences = compare_variants(sample, judges, compared, kept=kept, **chosen)
        strata[name] = {"title": title, "figures": figures, "differences": differences}
    return {
        "study": study.name,
        "benchmark": card["name"],
        "student": study.student,
        "synthetic": card["synthetic"],
        "dimension": dimension,
        "statistic": "spearman",
        "level": chosen["confidence"],
        "n_resamples": chosen["n_resamples"],
        "first": first,
        "seeds": list(study.seeds),
        "variants": {variant: _facts(study, variant, left_out[variant]) for variant in variants},
        "strata": strata,
        "generated": _generated(items, ratings, scores[~expected], judges, unseen, chosen),
        "claims": judge_claims(strata["all"]["differences"]),
        "missing": [f"{variant}/seed_{seed}" for variant, seed in missing],
        "command": f"kedro ablations --study {study.name} --benchmark {study.benchmark} --student {study.student} --jobs 2",
        "commit": commit(),
    }


def _generated(
    items: pd.DataFrame,
    ratings: pd.DataFrame,
    scores: pd.DataFrame,
    judges: Mapping[str, Sequence[str]],
    kept: Mapping[str, Kept],
    chosen: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Generated verdicts by variant: their agreement, over how many seeds, and which share of them could be read.

    A verdict that could not be read counts as the judge's worst score. A seed without two different verdicts has no figure.
    """
    (answered,), (sample,) = (build(items, ratings, scores, missing=policy).values() for policy in ("drop", "worst"))
    written = {variant: [name for name in names if name in sample.scores] for variant, names in judges.items()}
    told = {
        variant: [name for name in names if len(set(sample.scores[name][np.isfinite(sample.scores[name])])) > 1]
        for variant, names in written.items()
    }
    figures, _ = compare_variants(sample, {v: names for v, names in told.items() if names}, (), kept=kept, **chosen)
    none = {"value": None, "low": None, "high": None, "n": 0, "n_prompts": 0, "reason": "no two different verdicts"}
    return {
        variant: figures.get(variant, none)
        | {
            "seeds": len(told[variant]),
            "readable": round(
                fmean(np.isfinite(answered.scores[name][kept.get(variant, ...)]).mean() for name in names), 2
            ),
        }
        for variant, names in written.items()
        if names
    }


def _strata(
    sample: RatedItems, items: pd.DataFrame, elements: pd.DataFrame
) -> dict[str, tuple[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]]:
    """The items of the longest prompts, and of those with the most elements: name -> title, rows of the sample."""
    ordered = items.set_index("item_id").loc[list(sample.item_ids)]
    words = ordered["prompt"].map(lambda text: len(text.split()))
    counts = ordered["prompt_id"].map(elements.groupby("prompt_id").size())
    out = {}
    for name, values, unit in (("longest_prompts", words, "words"), ("most_elements", counts, "elements")):
        if values.notna().any():
            least = float(values.quantile(_TOP))
            out[name] = (f"Prompts of at least {least:g} {unit}", (values >= least).to_numpy(dtype=bool))
    return out


def _facts(study: Study, variant: str, left_out: Sequence[str]) -> dict[str, Any]:
    """What the training of a variant took, the mean over its seeds, and what it is measured on where not on all."""
    took = pd.DataFrame(
        json.loads(study.files(variant, seed)["sft_time"].read_text(encoding="utf-8")) for seed in study.seeds
    ).mean()
    facts: dict[str, Any] = {name: round(float(took[name])) for name in ("steps", "examples", "distinct")}
    return facts | {"seconds": round(float(took["seconds"]), 1), "measured_on": ", ".join(left_out)}


def write(result: Mapping[str, Any], folder: Path) -> Path:
    """Write the result as ``ablations.json`` and as the page ``ablations.html`` into ``folder``; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "ablations.html"
    for path, text in (
        (folder / "ablations.json", json.dumps(result, indent=2, allow_nan=False) + "\n"),
        (page, build_ablations(result)),
    ):
        with atomic_file(path) as work:
            work.write_text(text, encoding="utf-8")
    return page
