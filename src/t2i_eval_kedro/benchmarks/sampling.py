"""Balanced sampling of prompts by mixed-integer linear programming.

EvalMuse-40K chose its prompts so that the categories of several dimensions (subject, logic, style, embedding cluster)
are evenly filled; its objective and constraints are not published, so the ones here are ours:

    choose x in {0, 1}^n with sum x = K that minimises, over all dimensions d and their categories c,
    sum_d w_d * sum_c |(prompts chosen in c of d) - target_dc|

The target of a category is what it would hold if the prompts that carry dimension d were spread evenly over its
categories, and never more than there are: K is poured over the categories like water over basins of limited depth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, eye_array, hstack

from t2i_eval_kedro.errors import T2IEvalError

TRIES = 50  # prompts that are tried for an exchange before the search ends
ELEMENT_SKILLS = "element_skills"  # the dimension whose categories are the skills of a prompt's elements

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class BalancedSample:
    """A balanced sample.

    Attributes:
        chosen: the chosen prompts, in the order of the input.
        unevenness: the objective, in prompts: the weighted sum of the distances of all categories from their targets.
        bound: no sample can be more even than this.
        gap: (unevenness - bound) / unevenness, 0 to 1; 0 where the sample is proven best.
        method: "milp" where the solver closed the gap in its time, else "rounding".
        counts: chosen prompts by dimension and category.
        targets: what the categories were to hold.
    """

    chosen: list[str]
    unevenness: float
    bound: float
    gap: float
    method: str
    counts: Counts
    targets: dict[str, dict[str, float]]


def balanced_sample(
    categories: pd.DataFrame,
    size: int,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
    time_limit: float = 30.0,
    gap: float = 0.01,
) -> BalancedSample:
    """Choose ``size`` prompts so that the categories of every dimension are as even as can be.

    Among samples that are equally even the seed decides, by the order in which the solver meets the prompts. Where the
    solver does not close the gap in its time, what it has depends on the machine and is not used: the linear
    relaxation is rounded and improved by exchanges, which the seed alone decides, and ``gap`` says how far from the
    best that may be.

    Args:
        categories: one row a prompt (the index names it), one column a dimension; a cell is a category, a list of
            categories (a prompt may have several skills), or null.
        size: prompts to choose.
        weights: weight of each dimension, 1 where it is not given.
        seed: decides between equally even samples.
        time_limit: seconds for the solver.
        gap: relative gap at which the solver may stop.

    Raises:
        T2IEvalError: there are fewer than ``size`` prompts, a prompt is named twice, or no dimension is there.
    """
    if not len(categories.columns):
        raise T2IEvalError(
            "A balanced sample needs a dimension to even out; name one or more in ingestion.sample.dimensions, such as an "
            "attribute of the items or element_skills."
        )
    if not 0 < size <= len(categories):
        raise T2IEvalError(
            f"{size} prompts cannot be chosen from {len(categories)}; choose fewer with ingestion.sample.prompts."
        )
    if categories.index.has_duplicates:
        raise T2IEvalError("A prompt is duplicated in the table of categories; keep one row for each prompt.")
    order = np.random.default_rng(seed).permutation(len(categories))
    shuffled = categories.iloc[order]
    names, members = _membership(shuffled)
    target = _targets(names, members, size)
    weight = np.array([(weights or {}).get(dimension, 1.0) for dimension, _ in names])
    best, bound = _solve(members, target, weight, size, time_limit, gap)
    method = "milp"
    if best is None:
        best, method = _exchange(members, target, weight, _rounded(members, target, weight, size)), "rounding"
    unevenness = _unevenness(members, target, weight, best)
    counts: Counts = {}
    targets: dict[str, dict[str, float]] = {}
    for (dimension, category), count, goal in zip(names, members.T @ best, target, strict=True):
        counts.setdefault(dimension, {})[category] = round(count)
        targets.setdefault(dimension, {})[category] = round(float(goal), 6)
    chosen = set(shuffled.index[best > 0.5])
    return BalancedSample(
        chosen=[str(name) for name in categories.index if name in chosen],
        unevenness=round(unevenness, 6),
        bound=round(min(bound, unevenness), 6),
        gap=0.0 if unevenness <= bound + 1e-6 else round((unevenness - bound) / unevenness, 6),
        method=method,
        counts=counts,
        targets=targets,
    )


def prompt_categories(
    items: pd.DataFrame, elements: pd.DataFrame, groups: pd.Series, dimensions: Iterable[str]
) -> pd.DataFrame:
    """The categories of prompts, as :func:`balanced_sample` takes them.

    Args:
        items: the items table.
        elements: the elements table.
        groups: the prompt of each row of ``items``, as :func:`~t2i_eval_kedro.benchmarks.splits.prompt_groups` names it.
        dimensions: names of attributes of the items (a value or a list of values), or :data:`ELEMENT_SKILLS`.

    Returns:
        One row a prompt, one column a dimension, each cell the list of its categories in order.

    Raises:
        T2IEvalError: no item has such an attribute, or there are no elements.
    """
    attributes = [json.loads(text) if isinstance(text, str) else {} for text in items["attributes"]]
    skills = elements.groupby("prompt_id")["skill"].agg(list).to_dict()
    columns: dict[str, dict[str, list[str]]] = {}
    for dimension in dimensions:
        categories: dict[str, set[str]] = {group: set() for group in groups}
        for group, prompt_id, attributes_of_item in zip(groups, items["prompt_id"], attributes, strict=True):
            value = skills.get(prompt_id) if dimension == ELEMENT_SKILLS else attributes_of_item.get(dimension)
            categories[group].update(map(str, value if isinstance(value, list) else [] if value is None else [value]))
        if not any(categories.values()):
            known = sorted(
                {name for attributes_of_item in attributes for name in attributes_of_item}
                | ({ELEMENT_SKILLS} if skills else set())
            )
            raise T2IEvalError(
                f"No prompt has a category of '{dimension}'; the dimensions of a sample (ingestion.sample.dimensions) may be "
                f"{', '.join(known) or 'none here'}."
            )
        columns[dimension] = {group: sorted(values) for group, values in categories.items()}
    return pd.DataFrame(columns)


def _membership(categories: pd.DataFrame) -> tuple[list[tuple[str, str]], csr_array]:
    """Names of the categories as (dimension, category), and who is in which, of shape (prompts, categories)."""
    pairs: list[tuple[int, tuple[str, str]]] = []
    for dimension in categories.columns:
        for row, cell in enumerate(categories[dimension]):
            values = cell if isinstance(cell, list | tuple) else [] if pd.isna(cell) else [cell]
            pairs += [(row, (str(dimension), str(value))) for value in dict.fromkeys(values)]
    names = sorted({name for _, name in pairs})
    position = {name: column for column, name in enumerate(names)}
    rows, columns = [row for row, _ in pairs], [position[name] for _, name in pairs]
    return names, csr_array(coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(categories), len(names))))


def _targets(names: Sequence[tuple[str, str]], members: csr_array, size: int) -> np.ndarray:
    """What each category should hold.

    The share of a dimension's memberships in ``size`` prompts goes evenly to its categories. Where a category has fewer
    prompts than its even share, the others take what it cannot.
    """
    available = np.asarray(members.sum(axis=0)).ravel()
    target = np.zeros(len(names))
    for dimension in dict.fromkeys(dimension for dimension, _ in names):
        columns = [column for column, (name, _) in enumerate(names) if name == dimension]
        total = available[columns].sum() * size / members.shape[0]
        left = list(columns)
        while left:
            level = total / len(left)
            full = [column for column in left if available[column] <= level]
            if not full:
                target[left] = level
                break
            target[full] = available[full]
            total -= available[full].sum()
            left = [column for column in left if column not in full]
    return target


def _unevenness(members: csr_array, target: np.ndarray, weight: np.ndarray, chosen: np.ndarray) -> float:
    return float(weight @ np.abs(members.T @ chosen - target))


def _rounded(members: csr_array, target: np.ndarray, weight: np.ndarray, size: int) -> np.ndarray:
    """The sample of the largest values of the linear relaxation, of which at most one a category is fractional."""
    cost, bounds, constraints, _ = _program(members, target, weight, size)
    relaxed = milp(cost, bounds=bounds, constraints=constraints)
    share = np.asarray(relaxed.x, float)[: members.shape[0]]
    chosen = np.zeros(len(share))
    chosen[np.argsort(-share, kind="stable")[:size]] = 1
    return chosen


def _exchange(members: csr_array, target: np.ndarray, weight: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Exchange one chosen prompt for another as long as that lowers the unevenness."""
    chosen = chosen.copy()
    count = members.T @ chosen
    improved = True
    while improved:
        improved = False
        leaving = members @ (weight * (np.abs(count - 1 - target) - np.abs(count - target)))
        inside = np.flatnonzero(chosen)
        for out in inside[np.argsort(leaving[inside], kind="stable")][:TRIES]:
            rest = count - members[[out]].toarray().ravel()
            change = members @ (weight * (np.abs(rest + 1 - target) - np.abs(rest - target)))
            change[chosen > 0] = np.inf
            new = int(np.argmin(change))
            after = rest + members[[new]].toarray().ravel()
            if weight @ np.abs(after - target) < weight @ np.abs(count - target) - 1e-9:
                chosen[out], chosen[new], count = 0, 1, after
                improved = True
                break
    return chosen


def _program(
    members: csr_array, target: np.ndarray, weight: np.ndarray, size: int
) -> tuple[np.ndarray, Bounds, list[LinearConstraint], np.ndarray]:
    """Costs, bounds, constraints, and which variables are whole: the prompts; a distance a category follows them."""
    prompts, columns = members.shape
    distance = eye_array(columns)
    whole = np.concatenate([np.ones(prompts), np.zeros(columns)])
    bounds = Bounds(0, np.concatenate([np.ones(prompts), np.full(columns, np.inf)]))
    constraints = [
        LinearConstraint(csr_array(hstack([members.T, -distance])), ub=target),  # count - distance <= target
        LinearConstraint(csr_array(hstack([members.T, distance])), lb=target),  # count + distance >= target
        LinearConstraint(whole[None, :], lb=size, ub=size),
    ]
    return np.concatenate([np.zeros(prompts), weight]), bounds, constraints, whole


def _solve(
    members: csr_array, target: np.ndarray, weight: np.ndarray, size: int, time_limit: float, gap: float
) -> tuple[np.ndarray | None, float]:
    """The solver's sample if it closed the gap, and its lower bound of the unevenness."""
    cost, bounds, constraints, whole = _program(members, target, weight, size)
    result = milp(
        cost,
        integrality=whole,
        bounds=bounds,
        constraints=constraints,
        options={"time_limit": time_limit, "mip_rel_gap": gap},
    )
    bound = 0.0 if result.mip_dual_bound is None else max(0.0, float(result.mip_dual_bound))
    return (np.round(result.x[: members.shape[0]]) if result.status == 0 else None), bound
