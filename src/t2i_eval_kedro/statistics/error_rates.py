"""Do the tests between judges reject a true null hypothesis as often as they say? Simulation.

Null model. An item's quality is a generator effect (standard deviation 0.5), a prompt effect (0.5) and an item effect (1).
The gold is the mean of three raters who see the quality with noise of 1 and answer on a 5-point scale. Both judges see the
quality with an error of their own per prompt (0.7) and per item (1), drawn from one distribution: they are exchangeable, and
neither is better. The second judge then answers on another scale (times 10, plus 3). With ``generator_bias`` above 0 each
judge also favours generators by errors of that standard deviation: then the judges agree equally well with people only on
average over new generators, which is not the null hypothesis of a test that holds the generators fixed.

Even prompts have an item of every generator; uneven ones have between one item and all of them, at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from t2i_eval_kedro.statistics import significance as tests
from t2i_eval_kedro.statistics.correlation import kendall_b, pearson, spearman
from t2i_eval_kedro.statistics.grouping import Groups, statistics_within_groups
from t2i_eval_kedro.statistics.kernels import Floats, Ints
from t2i_eval_kedro.statistics.ranking import MIN_GENERATORS

DEFAULT_TESTS = ("prompts, spearman", "prompts, kendall_b", "prompts, pearson", "prompts, kendall_b within prompts")
"""The default test, by statistic."""


@dataclass(frozen=True)
class SimulationDesign:
    """One design of the simulation.

    Attributes:
        generators: number of generators.
        even: whether every prompt has an item of every generator.
        prompts: number of prompts.
        generator_bias: standard deviation of each judge's errors per generator.
    """

    generators: int
    even: bool
    prompts: int = 40
    generator_bias: float = 0.0


def simulate(design: SimulationDesign, rng: np.random.Generator) -> tuple[Floats, Floats, Floats, Ints, Ints]:
    """One data set under the null model: first judge, second judge, ratings, prompt and generator of each item."""
    prompt, generator = (
        np.repeat(np.arange(design.prompts), design.generators),
        np.tile(np.arange(design.generators), design.prompts),
    )
    if not design.even:
        share = rng.uniform(size=design.prompts)[prompt]
        kept = (rng.uniform(size=len(prompt)) < share) | (
            generator == rng.integers(design.generators, size=design.prompts)[prompt]
        )
        prompt, generator = prompt[kept], generator[kept]
    n = len(prompt)
    quality = 0.5 * rng.normal(size=design.generators)[generator] + 0.5 * rng.normal(size=design.prompts)[prompt]
    quality = quality + rng.normal(size=n)
    ratings = np.clip(np.round(3 + quality[:, None] + rng.normal(size=(n, 3))), 1, 5).sum(axis=1) / 3
    a, b = (
        quality
        + 0.7 * rng.normal(size=design.prompts)[prompt]
        + rng.normal(size=n)
        + design.generator_bias * rng.normal(size=design.generators)[generator]
        for _ in range(2)
    )
    return a, 10 * b + 3, ratings, prompt, generator


def p_values(
    a: Floats, b: Floats, y: Floats, prompt: Ints, generator: Ints, permutations: int, rng: np.random.Generator
) -> dict[str, float]:
    """The p-value of every test on one data set; tests of generators only where there are enough of them."""
    prompts, generators, n = int(prompt.max()) + 1, int(generator.max()) + 1, len(y)
    functions = {"spearman": spearman, "kendall_b": kendall_b, "pearson": pearson}
    r = {name: (function(a, y), function(b, y), function(a, b)) for name, function in functions.items()}
    out: dict[str, float] = {}

    def permuted(label: str, group: Ints, groups: int, names: tuple[str, ...]) -> tests.PairedPermutation:
        permutation = tests.PairedPermutation(rng.integers(0, 2, size=(permutations, groups)))
        null = permutation.pooled(a, b, y, group, names)
        out.update({f"{label}, {name}": tests.p_value(r[name][0] - r[name][1], null[name])[0] for name in names})
        return permutation

    permutation = permuted("prompts", prompt, prompts, tuple(functions))
    groups = Groups.by_code(prompt, map(str, range(prompts)))
    within_prompt = [statistics_within_groups(v, y, groups)["kendall_b"] for v in (a, b)]
    gap = within_prompt[0] - within_prompt[1]
    observed = float(gap[np.isfinite(gap)].mean())
    out["prompts, kendall_b within prompts"] = tests.p_value(observed, permutation.grouped(*within_prompt))[0]
    if generators >= MIN_GENERATORS:
        permuted("generators", generator, generators, ("spearman",))
    permuted("items (PERM-BOTH)", np.arange(n), n, ("spearman",))
    out["sign test over prompts"] = tests.sign_test(*within_prompt)
    out["Williams, pearson"] = tests.williams(*r["pearson"], n)
    out["Steiger, spearman"] = tests.steiger(*r["spearman"], n)
    return out


def type_one_error(
    design: SimulationDesign, simulations: int, permutations: int = 199, seed: int = 0, alpha: float = 0.05
) -> Mapping[str, float]:
    """Fraction of simulated data sets in which each test rejects at ``alpha`` although neither judge is better.

    Its own standard error is ``sqrt(0.05 * 0.95 / simulations)``, 0.0034 for 4,000.
    """
    rejected: dict[str, int] = {}
    for k in range(simulations):
        rng = np.random.default_rng([seed, k, design.generators, int(design.even)])
        for name, p in p_values(*simulate(design, rng), permutations, rng).items():
            rejected[name] = rejected.get(name, 0) + (p <= alpha + 1e-12)
    return {name: count / simulations for name, count in rejected.items()}
