"""``kedro ablations``: runs the cells of a study that are missing, and sets its variants beside each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np
import pandas as pd
from kedro.framework.project import settings

from t2i_eval_kedro import schema
from t2i_eval_kedro.agreement.across_seeds import Kept, compare_variants
from t2i_eval_kedro.agreement.rated_items import RatedItems, build
from t2i_eval_kedro.cli.errors import readable_errors
from t2i_eval_kedro.config import catalog_entries
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
    """One study of one student on one benchmark, as the configuration describes it."""

    name: str
    benchmark: str
    student: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    env: str

    @classmethod
    def load(cls, name: str, benchmark: str | None, student: str | None, env: str) -> Study:
        """The study ``name`` of ``parameters_ablations.yml``."""
        chosen_axes = {"benchmark": benchmark, "student": student}
        parameters = _config({axis: value for axis, value in chosen_axes.items() if value}, env)["parameters"]
        if name not in parameters["studies"]:
            raise T2IEvalError(f"There is no study '{name}'; the studies are {', '.join(parameters['studies'])}.")
        chosen = parameters["studies"][name]
        variants, seeds = tuple(chosen["variants"]), tuple(chosen["seeds"])
        return cls(name, parameters["benchmark"], parameters["student"], variants, seeds, env)

    def config(self, variant: str, seed: int) -> Any:
        """The configuration of one cell."""
        variant = f"{self.name}/{variant}"
        given = {"benchmark": self.benchmark, "student": self.student, "variant": variant, "seed": seed}
        return _config(given, self.env)

    def files(self, variant: str, seed: int) -> dict[str, Path]:
        """Dataset -> file of one cell."""
        entries = catalog_entries(self.config(variant, seed)["catalog"], _DATASETS)
        return {name: Path(entry["filepath"]) for name, entry in entries.items()}

    def missing(self) -> list[tuple[str, int]]:
        """The cells that have not been run to their end."""
        return [
            (variant, seed)
            for variant in self.variants
            for seed in self.seeds
            if not all(self.files(variant, seed)[name].is_file() for name in ("sft_time", "sft_scores"))
        ]

    def command(self, pipelines: str, **axes: object) -> list[str]:
        """What runs ``pipelines`` with the study's student on its benchmark."""
        fixed: dict[str, object] = {"benchmark": self.benchmark, "student": self.student}
        given = ",".join(f"{name}={value}" for name, value in (fixed | axes).items())
        return ["kedro", "run", f"--env={self.env}", f"--pipelines={pipelines}", f"--params={given}"]


def _config(runtime_params: Mapping[str, Any], env: str) -> Any:
    return settings.CONFIG_LOADER_CLASS(
        conf_source="conf", env=env, runtime_params=dict(runtime_params), **settings.CONFIG_LOADER_ARGS
    )


def run_missing(study: Study, jobs: int) -> None:
    """Run the missing cells, ``jobs`` at a time with one thread each.

    Raises:
        T2IEvalError: a cell failed.
    """
    cells = study.missing()
    if not cells:
        return
    files = study.files(*cells[0])
    if not all(files[name].is_file() for name in ("items", "teacher_scores")):
        _run(study.command("ingestion,teacher_distillation"))
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(_run, study.command(ABLATION_RUN, variant=f"{study.name}/{variant}", seed=seed))
            for variant, seed in cells
        ]
        for cell in waiting:
            cell.result()


def _run(command: Sequence[str]) -> None:
    click.echo(" ".join(command))
    done = subprocess.run(
        [sys.executable, "-m", *command], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise T2IEvalError(f"'{' '.join(command)}' failed:\n{last}")


def measure(study: Study, *, n_resamples: int | None = None) -> dict[str, Any]:
    """The result that :func:`~t2i_eval_kedro.reporting.ablations.build_ablations` draws.

    Raises:
        T2IEvalError: fewer than two variants have all their cells.
    """
    missing = study.missing()
    variants = [variant for variant in study.variants if variant not in {variant for variant, _ in missing}]
    if len(variants) < 2 or variants[0] != study.variants[0]:
        raise T2IEvalError(
            f"Study '{study.name}' needs every seed of '{study.variants[0]}' and of another variant; run the cells with "
            "kedro ablations --jobs 2, or with dvc repro."
        )
    first = variants[0]
    files, config = study.files(first, study.seeds[0]), study.config(first, study.seeds[0])["parameters"]
    meta = config["meta_evaluation"]
    tables = {name: pd.read_parquet(files[name]) for name in ("items", "splits", "ratings", "elements")}
    card = json.loads(files["data_card"].read_text(encoding="utf-8"))
    items = in_fold(tables["items"], tables["splits"], config["judging"]["fold"])
    dimensions = [entry["name"] for entry in card["dimensions"]]
    dimension = "overall" if "overall" in dimensions else dimensions[0]
    ratings = tables["ratings"][tables["ratings"]["dimension"] == dimension]
    said = [
        schema.SCORES.check(pd.read_parquet(study.files(variant, seed)["sft_scores"])).assign(cell=f"{variant}/{seed}")
        for variant in variants
        for seed in study.seeds
    ]
    scores = pd.concat(said, ignore_index=True)
    expected = scores["protocol"].isin(EXPECTED)
    scores = scores.assign(judge=scores.pop("cell"), protocol=None)
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
    left_out = {variant: study.config(variant, 0)["parameters"]["examples"]["leave_out"] for variant in variants}
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
    (said,), (sample,) = (build(items, ratings, scores, missing=policy).values() for policy in ("drop", "worst"))
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
                fmean(np.isfinite(said.scores[name][kept.get(variant, ...)]).mean() for name in names), 2
            ),
        }
        for variant, names in written.items()
        if names
    }


def _strata(
    sample: RatedItems, items: pd.DataFrame, elements: pd.DataFrame
) -> dict[str, tuple[str, np.ndarray[tuple[int], np.dtype[np.bool_]]]]:
    """The items of the longest prompts, and of those with the most elements: name -> title, rows of the sample."""
    own = items.set_index("item_id").loc[list(sample.item_ids)]
    words = own["prompt"].map(lambda text: len(text.split()))
    counts = own["prompt_id"].map(elements.groupby("prompt_id").size())
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


@click.command("ablations")
@click.option(
    "--study", "name", default="ablation", show_default=True, help="Study of conf/base/parameters_ablations.yml."
)
@click.option("--benchmark", help="Benchmark to measure on. By default that of the parameters.")
@click.option("--student", help="Student to train. By default that of the parameters.")
@click.option("--env", default="base", show_default=True, help="Configuration environment of the runs.")
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Number of missing runs to train at a time; 0 trains none.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write to. Default: the report folder of the study.",
)
@readable_errors
def ablations(name: str, benchmark: str | None, student: str | None, env: str, jobs: int, out: Path | None) -> None:
    """Compare the variants of a study over prompts and seeds; writes ablations.json and ablations.html."""
    study = Study.load(name, benchmark, student, env)
    if jobs:
        run_missing(study, jobs)
    result = measure(study)
    folder = out or study.files(study.variants[0], study.seeds[0])["summary"].parents[2]
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (
        ("ablations.json", json.dumps(result, indent=2, allow_nan=False) + "\n"),
        ("ablations.html", build_ablations(result)),
    ):
        with atomic_file(folder / file) as work:
            work.write_text(text, encoding="utf-8")
    for claim in result["claims"]:
        click.echo(
            f"{claim['verdict']:5s} {claim['a']} - {claim['b']}: {claim['difference']:+.3f} "
            f"[{claim['low']:+.3f}, {claim['high']:+.3f}]  {claim['text']}"
        )
    click.echo(f"The table is in {folder / 'ablations.html'}.")
