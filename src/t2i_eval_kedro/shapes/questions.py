"""Generic questions with their answers, over pictures of shapes, pairs of pictures, or no picture: what the tiny model is
pre-trained on.

No answer is a score and no generator or rater of the benchmark is involved: pictures come from `sample_picture`, which draws
scenes at random, some with their groups off the prompts' paths of relations, some blurred or hazy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, permutations
from typing import Any, TypeVar

import numpy as np

from t2i_eval_kedro.shapes.prompts import ScenePrompt, elements, fill, other_value, prompt_text, sample_statement
from t2i_eval_kedro.shapes.render import Degradation, sample_severity
from t2i_eval_kedro.shapes.scene import (
    COLORS,
    MAX_GROUPS,
    NUMBERS,
    RELATIONS,
    SHAPES,
    SIZES,
    Group,
    Scene,
    count_question,
    fits,
    layout_relations,
    layouts,
    noun,
    plural,
    region_cells,
    relation,
    sample_scene,
)
from t2i_eval_kedro.shapes.truth import clarity

QUADRANTS = ("upper left", "upper right", "lower left", "lower right")
#: Words for levels, worst to best; they and the numerals 0 to 10 are learned alike.
LEVEL_WORDS = ("wrong", "bad", "partly", "mostly", "good")
_NOTHING = "nothing"

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """A question and its answer; ``about`` is the core of the description that it quotes, or ""."""

    question: str
    answer: str
    about: str = ""


@dataclass(frozen=True)
class Shown:
    """A picture as questions see it: what is in it and how far it is spoiled."""

    scene: Scene
    degradation: Degradation


def sample_picture(rng: np.random.Generator, max_groups: int = MAX_GROUPS) -> Shown:
    """A random scene, one in six with its groups in any regions, and a degradation (none in half of the cases)."""
    scene = sample_scene(rng, max_groups)
    if rng.random() < 1 / 6 and len(scene.groups) < MAX_GROUPS:
        regions = rng.permutation(4)[: len(scene.groups)]
        scene = Scene(tuple(replace(group, region=int(q)) for group, q in zip(scene.groups, regions, strict=True)))
    return Shown(scene, sample_degradation(rng))


def sample_degradation(rng: np.random.Generator) -> Degradation:
    """Blur and haze, each in 3 of 10 pictures; no grain, which belongs to what is held out."""
    blur, haze = (sample_severity(0.1, 0.9, rng) if rng.random() < 0.3 else 0.0 for _ in range(2))
    return Degradation(blur, haze)


def paths(scene: Scene) -> list[Scene]:
    """The scene with its groups in every order in which consecutive ones are side by side or one above the other."""
    return [
        Scene(order)
        for order in permutations(scene.groups)
        if all(relation(a, b) is not None for a, b in pairwise(order))
    ]


def vary(scene: Scene, changes: int, rng: np.random.Generator) -> Scene:
    """The scene with up to ``changes`` changes to colour, size, number, shape or place, or a group more or less."""
    for _ in range(changes):
        scene = _changed(scene, rng)
    return scene


def _changed(scene: Scene, rng: np.random.Generator) -> Scene:
    groups = list(scene.groups)
    i = int(rng.integers(len(groups)))
    what = _pick(("color", "color", "size", "count", "count", "shape", "relation", "relation", "more", "less"), rng)
    unused = [shape for shape in SHAPES if scene.find(shape) is None]
    if what in ("color", "size", "count"):
        value: Any = other_value(what, getattr(groups[i], what), rng)
        changed = replace(groups[i], **{what: value})
        if changed.count <= len(region_cells(changed.region)):
            groups[i] = changed
    elif what == "shape":
        groups[i] = replace(groups[i], shape=_pick(unused, rng))
    elif what == "relation" and len(groups) > 1:
        choices = [layout for layout in layouts(len(groups)) if fits([g.count for g in groups], layout)]
        layout = choices[int(rng.integers(len(choices)))]
        groups = [replace(group, region=region) for group, region in zip(groups, layout, strict=True)]
    elif what == "more" and len(groups) < MAX_GROUPS - 1:
        known = layout_relations([group.region for group in groups])
        choices = [layout for layout in layouts(len(groups) + 1) if layout_relations(layout)[:-1] == known]
        layout = choices[int(rng.integers(len(choices)))] if choices else ()
        new = replace(sample_scene(rng, 1).groups[0], shape=_pick(unused, rng))
        groups = [replace(g, region=r) for g, r in zip([*groups, new], layout, strict=False)] or groups
    elif what == "less" and len(groups) > 1:
        groups = groups[:-1] if rng.random() < 0.5 else groups[1:]
    return Scene(tuple(groups))


def description(scene: Scene, rng: np.random.Generator, changes: int) -> ScenePrompt | None:
    """A description of the scene that may be wrong, ``changes`` times; None where no order of the groups is a path."""
    orders = paths(scene)
    if not orders:
        return None
    prompt = sample_statement(vary(orders[int(rng.integers(len(orders)))], changes, rng), rng)
    return fill(prompt, int(rng.integers(8, 44)), rng) if rng.random() < 0.4 else prompt


def wrong_parts(prompt: ScenePrompt, seen: Scene) -> list[str]:
    """What the picture ``seen`` shows otherwise than ``prompt`` states, in the order of the prompt."""
    wrong: list[str] = []
    conflict = prompt.conflict
    for i, asked in enumerate(prompt.scene.groups):
        group = seen.find(asked.shape)
        if group is None:
            wrong.append(f"no {asked.shape}")
            continue
        values = {name: {getattr(asked, name)} for name in (*prompt.stated[i], "count")}
        if conflict is not None and conflict.group == i:
            values[conflict.attribute].add(conflict.value)  # one of the two is always wrong
        differs = {name for name, stated in values.items() if stated != {getattr(group, name)}}
        if prompt.not_color[i] == group.color:
            differs.add("color")
        wrong += [f"the {group.shape} is {getattr(group, name)}" for name in ("color", "size") if name in differs]
        if "count" in differs:
            wrong.append(f"{NUMBERS[group.count - 1]} {noun(group)}")
    for a, b in pairwise(prompt.scene.groups):
        seen_a, seen_b = seen.find(a.shape), seen.find(b.shape)
        if seen_a is not None and seen_b is not None and relation(seen_a, seen_b) != relation(a, b):
            wrong.append(f"the {a.shape} is {relation(seen_a, seen_b) or 'not near'} the {b.shape}")
    if prompt.absent is not None and seen.find(prompt.absent) is not None:
        wrong.append(f"a {prompt.absent}")
    return wrong


def ask(shown: Shown, kind: str, rng: np.random.Generator) -> Pair | None:
    """One question of this ``kind`` (a key of `PICTURE_KINDS`); None where the picture does not allow it."""
    return _PICTURE_ASKERS[kind](shown, rng)


def ask_pair(first: Shown, second: Shown, described: Scene, kind: str, rng: np.random.Generator) -> Pair | None:
    """One question of this ``kind`` (a key of `PAIR_KINDS`) about two pictures in one conversation.

    ``described`` is the scene that descriptions are made of; None where the two pictures are too much alike to choose.
    """
    if kind == "clearer":
        a, b = ((1 - s.degradation.blur) * (1 - s.degradation.haze) for s in (first, second))
        if abs(a - b) < 0.08:
            return None
        return Pair("which image is clearer ?", "first" if a > b else "second")
    if kind in ("fits", "part fits"):
        if kind == "fits":
            prompt = description(described, rng, int(rng.integers(2)))
        else:
            prompt = sample_statement(Scene((_pick(described.groups, rng),)), rng)
        if prompt is None:
            return None
        a, b = (len(wrong_parts(prompt, s.scene)) for s in (first, second))
        if a == b:
            return None
        return Pair(f"{prompt_text(prompt)} , which image fits better ?", "first" if a < b else "second", prompt.core)
    number = int(rng.integers(2))
    about = "match" if kind == "either matches" else _pick(("yes_no", "color", "clarity"), rng)
    pair = ask((first, second)[number], about, rng)
    return pair and replace(pair, question=f"in the {('first', 'second')[number]} image , {pair.question}")


def ask_text(kind: str, rng: np.random.Generator) -> Pair:
    """One question of this ``kind`` (a key of `TEXT_KINDS`) that needs no picture."""
    return _TEXT_ASKERS[kind](rng)


def _pick(values: Sequence[T], rng: np.random.Generator) -> T:
    return values[int(rng.integers(len(values)))]


def _asked_shape(scene: Scene, rng: np.random.Generator, absent: float = 0.12) -> tuple[str, Group | None]:
    """A shape to ask about, and its group, or None in a share ``absent`` of the cases."""
    if rng.random() < absent:
        return _pick([shape for shape in SHAPES if scene.find(shape) is None], rng), None
    group = _pick(scene.groups, rng)
    return group.shape, group


def _color(shown: Shown, rng: np.random.Generator) -> Pair:
    shape, group = _asked_shape(shown.scene, rng)
    return Pair(f"what color is the {shape} ?", group.color if group else f"no {shape}")


def _size(shown: Shown, rng: np.random.Generator) -> Pair:
    shape, group = _asked_shape(shown.scene, rng)
    return Pair(f"what size is the {shape} ?", group.size if group else f"no {shape}")


def _count(shown: Shown, rng: np.random.Generator) -> Pair:
    shape, group = _asked_shape(shown.scene, rng)
    return Pair(f"how many {plural(shape)} are there ?", NUMBERS[group.count - 1] if group else "none")


def _shape(shown: Shown, rng: np.random.Generator) -> Pair:
    quadrant = int(rng.integers(4))
    groups = sorted((g for g in shown.scene.groups if g.quadrant == quadrant), key=lambda g: g.region)
    return Pair(f"what is in the {QUADRANTS[quadrant]} ?", " and ".join(g.shape for g in groups) or _NOTHING)


def _position(shown: Shown, rng: np.random.Generator) -> Pair:
    shape, group = _asked_shape(shown.scene, rng)
    return Pair(f"where is the {shape} ?", QUADRANTS[group.quadrant] if group else f"no {shape}")


def _relation(shown: Shown, rng: np.random.Generator) -> Pair | None:
    pair = _neighbours(shown.scene, rng)
    if pair is None:
        return None
    a, b = pair
    return Pair(f"how does the {a.shape} stand to the {b.shape} ?", str(relation(a, b)))


def _neighbours(scene: Scene, rng: np.random.Generator) -> tuple[Group, Group] | None:
    pairs = [pair for pair in combinations(scene.groups, 2) if relation(*pair) is not None]
    if not pairs:
        return None
    a, b = _pick(pairs, rng)
    return (a, b) if rng.random() < 0.5 else (b, a)


#: Skills of yes/no questions, with the share of each.
YES_NO = {"object": 0.1, "absent": 0.06, "color": 0.16, "not_color": 0.1, "size": 0.13, "count": 0.2, "relation": 0.25}


def _yes_no(shown: Shown, rng: np.random.Generator) -> Pair | None:
    """An element's question, one in twelve turned round."""
    pair = yes_no(shown, list(YES_NO)[int(rng.choice(len(YES_NO), p=list(YES_NO.values())))], rng)
    if pair is None or rng.random() >= 1 / 12:
        return pair
    return Pair(f"{pair.question} is it wrong ?", _word(pair.answer == "no"))


def yes_no(shown: Shown, skill: str, rng: np.random.Generator) -> Pair | None:
    """An element's question in the benchmark's words, on one of the skills of `YES_NO`; "yes" in half of the cases."""
    scene = shown.scene
    if skill == "relation":
        return _yes_no_relation(scene, rng)
    truthful = bool(rng.random() < 0.5)
    if skill in ("object", "absent"):
        shape, group = _asked_shape(scene, rng, 0.5)
        return Pair(
            f"is there {'a' if skill == 'object' else 'no'} {shape} ?", _word((group is None) != (skill == "object"))
        )
    shape, group = _asked_shape(scene, rng, 0.0 if truthful else 0.25)
    if skill == "not_color":
        stated = (
            str(other_value("color", group.color, rng))
            if group and truthful
            else group.color
            if group
            else _pick(COLORS, rng)
        )
        return Pair(f"is the {shape} not {stated} ?", _word(truthful))
    if group is None:
        value: str | int = (
            1 + int(rng.integers(3)) if skill == "count" else _pick(COLORS if skill == "color" else SIZES, rng)
        )
    else:
        value = getattr(group, skill)
        value = value if truthful else other_value(skill, value, rng)
    question = count_question(shape, int(value)) if skill == "count" else f"is the {shape} {value} ?"
    return Pair(question, _word(truthful))


def _yes_no_relation(scene: Scene, rng: np.random.Generator) -> Pair | None:
    """True in half of the cases; of the false ones two in five name something that is not there."""
    stated = _pick(RELATIONS, rng)
    if rng.random() < 0.2:
        gone, here = (
            _pick([shape for shape in SHAPES if scene.find(shape) is None], rng),
            _pick(scene.groups, rng).shape,
        )
        a, b = (gone, here) if rng.random() < 0.5 else (here, gone)
        return Pair(f"is the {a} {stated} the {b} ?", "no")
    pair = _neighbours(scene, rng)
    if pair is None:
        return None
    first, second = pair
    true = relation(first, second)
    if rng.random() < 0.625:
        stated = str(true)
    elif stated == true:
        stated = _pick([name for name in RELATIONS if name != true], rng)
    return Pair(f"is the {first.shape} {stated} the {second.shape} ?", _word(stated == true))


def _word(holds: bool) -> str:
    return "yes" if holds else "no"


def _clarity(shown: Shown, rng: np.random.Generator) -> Pair:
    questions = (
        "is the image clear ?",
        "how clear is the image ?",
        f"is the {_pick(shown.scene.groups, rng).shape} clear ?",
    )
    return Pair(_pick(questions, rng), clarity(shown.degradation))


def _caption(shown: Shown, rng: np.random.Generator) -> Pair | None:
    """The first order of the groups that is a path, beginning with the foremost group that can."""
    orders = paths(Scene(tuple(sorted(shown.scene.groups, key=lambda group: (group.quadrant, group.region)))))
    if not orders or len(orders[0].groups) > 3:
        return None
    prompt = ScenePrompt.of(orders[0])
    return Pair("describe the image", prompt_text(prompt), prompt.core)


def _described(shown: Shown, rng: np.random.Generator) -> tuple[ScenePrompt, list[str]] | None:
    prompt = description(shown.scene, rng, int(rng.choice(4, p=[0.3, 0.35, 0.2, 0.15])))
    return None if prompt is None else (prompt, wrong_parts(prompt, shown.scene))


def _difference(shown: Shown, rng: np.random.Generator) -> Pair | None:
    made = _described(shown, rng)
    if made is None:
        return None
    prompt, wrong = made
    return Pair(f"{prompt_text(prompt)} , what is wrong ?", ", ".join(wrong) or _NOTHING, prompt.core)


def _faults(shown: Shown, rng: np.random.Generator) -> Pair | None:
    made = _described(shown, rng)
    if made is None:
        return None
    prompt, wrong = made
    return Pair(f"{prompt_text(prompt)} , how many are wrong ?", str(min(len(wrong), 10)), prompt.core)


def _match(shown: Shown, rng: np.random.Generator) -> Pair | None:
    prompt = description(shown.scene, rng, int(rng.choice(4, p=[0.5, 0.3, 0.15, 0.05])))
    if prompt is None:
        return None
    return Pair(f"{prompt_text(prompt)} , is it right ?", _word(not wrong_parts(prompt, shown.scene)), prompt.core)


def _total(shown: Shown, _: np.random.Generator) -> Pair | None:
    total = sum(group.count for group in shown.scene.groups)
    return Pair("how many in all , in numbers ?", str(total)) if total <= 10 else None


def parts(prompt: ScenePrompt) -> str:
    """What the prompt states, one group after another, then the relations and what is denied."""
    phrases: list[str] = []
    for i, group in enumerate(prompt.scene.groups):
        words = [group.shape, *(getattr(group, name) for name in ("color", "size") if name in prompt.stated[i])]
        if prompt.not_color[i]:
            words += ["not", str(prompt.not_color[i])]
        phrases.append(" ".join([*words, NUMBERS[group.count - 1]]))
    rest = [e.text for e in elements(prompt) if e.skill == "spatial" or e.element_id.endswith((".absent", ".conflict"))]
    return ", ".join([*phrases, *rest])


def _parts(rng: np.random.Generator) -> Pair:
    prompt = sample_statement(sample_scene(rng), rng)
    if rng.random() < 0.6:
        prompt = fill(prompt, int(rng.integers(8, 44)), rng)
    return Pair(f"name the parts : {prompt_text(prompt)}", parts(prompt), prompt.core)


def _questions(rng: np.random.Generator) -> Pair:
    """A question about each thing that a prompt, or the list of its parts, states."""
    prompt = sample_statement(sample_scene(rng), rng)
    if rng.random() < 0.6:
        prompt = fill(prompt, int(rng.integers(8, 44)), rng)
    stated = parts(prompt) if rng.random() < 0.5 else prompt_text(prompt)
    return Pair(f"name the questions : {stated}", " ".join(e.question for e in elements(prompt)), prompt.core)


def _question_list(rng: np.random.Generator) -> Pair:
    """The same, one a line, each with the things that it is about, or with those and its kind."""
    prompt = sample_statement(sample_scene(rng), rng)
    if rng.random() < 0.7:
        prompt = fill(prompt, int(rng.integers(8, 44)), rng)
    with_kinds = bool(rng.random() < 0.6)
    lines = []
    for element in elements(prompt):
        thing, _, rest = element.element_id.partition(".")
        kind = "object" if rest in ("", "absent") else rest.split(".")[0].removeprefix("not_")
        if element.skill == "spatial":
            thing, kind = f"{thing}, {rest.rpartition('.')[2]}", "relations"
        lines.append(" | ".join([*([kind] if with_kinds else []), thing, element.question]))
    asked = f"name the {'kinds and ' if with_kinds else ''}objects and questions"
    return Pair(f"{asked} : {prompt_text(prompt)}", "\n".join(lines), prompt.core)


def _levels(words: bool, rng: np.random.Generator, n: int) -> list[int]:
    return [int(k) for k in rng.integers(len(LEVEL_WORDS) if words else 11, size=n)]


def _say(level: int, words: bool) -> str:
    return LEVEL_WORDS[level] if words else str(level)


def _order(rng: np.random.Generator) -> Pair:
    """Which of two levels is more or less, in numerals or in words."""
    words = bool(rng.random() < 0.5)
    a, b = (int(k) for k in rng.choice(len(LEVEL_WORDS) if words else 11, size=2, replace=False))
    more = bool(rng.random() < 0.5)
    question = f"what is {'more' if more else 'less'} , {_say(a, words)} or {_say(b, words)} ?"
    return Pair(question, _say(max(a, b) if more else min(a, b), words))


def _mean(rng: np.random.Generator) -> Pair:
    """The mean of one to eight levels, halves rounded up; what is "n/a" does not count."""
    return _mean_of(1 + int(rng.choice(8, p=[0.1, 0.2, 0.2, 0.15, 0.1, 0.1, 0.08, 0.07])), rng)


def _long_mean(rng: np.random.Generator) -> Pair:
    """The same of six to twenty levels."""
    return _mean_of(int(rng.integers(6, 21)), rng)


def _mean_of(n: int, rng: np.random.Generator) -> Pair:
    words = bool(rng.random() < 0.5)
    levels = _levels(words, rng, n)
    if rng.random() < 0.5:  # mostly high, as lists of levels are
        levels = [(len(LEVEL_WORDS) - 1 if words else 10) if rng.random() < 0.7 else level for level in levels]
    spoken = [_say(level, words) for level in levels]
    if rng.random() < 0.15:
        spoken.insert(int(rng.integers(n + 1)), "n/a")
    mean = int(sum(levels) / n + 0.5)
    return Pair(f"{_pick((' , ', ' '), rng).join(spoken)} , mean ?", _say(mean, words))


def _sum(rng: np.random.Generator) -> Pair:
    """The sum of two to four numerals, at most 10."""
    total, n = int(rng.integers(11)), int(rng.integers(2, 5))
    cuts = sorted(int(k) for k in rng.integers(total + 1, size=n - 1))
    terms = [b - a for a, b in pairwise([0, *cuts, total])]
    return Pair(f"{_pick((' , ', ' '), rng).join(map(str, terms))} , in all ?", str(total))


def _translation(rng: np.random.Generator) -> Pair:
    """A numeral in words or a word in numerals: five words, evenly spaced over 0 to 10."""
    if rng.random() < 0.5:
        level = int(rng.integers(11))
        return Pair(f"{level} in words ?", LEVEL_WORDS[int(level / 2.5 + 0.5)])
    level = int(rng.integers(len(LEVEL_WORDS)))
    return Pair(f"{LEVEL_WORDS[level]} in numbers ?", str(int(2.5 * level + 0.5)))


_PICTURE_ASKERS: dict[str, Callable[[Shown, np.random.Generator], Pair | None]] = {
    "color": _color,
    "size": _size,
    "count": _count,
    "shape": _shape,
    "position": _position,
    "relation": _relation,
    "yes_no": _yes_no,
    "spatial": lambda shown, rng: yes_no(shown, "relation", rng),
    "clarity": _clarity,
    "caption": _caption,
    "difference": _difference,
    "faults": _faults,
    "match": _match,
    "total": _total,
}
_TEXT_ASKERS: dict[str, Callable[[np.random.Generator], Pair]] = {
    "parts": _parts,
    "questions": _questions,
    "question list": _question_list,
    "long mean": _long_mean,
    "order": _order,
    "mean": _mean,
    "sum": _sum,
    "translation": _translation,
}

#: Share of each kind among the questions about a picture, a pair of pictures, and none.
PICTURE_KINDS = {
    "color": 0.05,
    "size": 0.05,
    "count": 0.07,
    "shape": 0.03,
    "position": 0.03,
    "relation": 0.09,
    "yes_no": 0.26,
    "clarity": 0.08,
    "caption": 0.03,
    "difference": 0.13,
    "faults": 0.08,
    "match": 0.08,
    "total": 0.02,
}
PAIR_KINDS = {"clearer": 0.25, "fits": 0.45, "either": 0.3}
TEXT_KINDS = {"parts": 0.4, "order": 0.13, "mean": 0.3, "sum": 0.12, "translation": 0.05}

#: The same for the last phase, which goes over what is hardest.
LAST_PICTURE_KINDS = {
    "color": 0.01,
    "size": 0.01,
    "count": 0.02,
    "shape": 0.01,
    "position": 0.01,
    "relation": 0.05,
    "yes_no": 0.12,
    "spatial": 0.13,
    "clarity": 0.07,
    "caption": 0.04,
    "difference": 0.25,
    "faults": 0.13,
    "match": 0.14,
    "total": 0.01,
}
LAST_PAIR_KINDS = {"clearer": 0.08, "fits": 0.25, "part fits": 0.35, "either": 0.1, "either matches": 0.22}
LAST_TEXT_KINDS = {"parts": 0.6, "order": 0.05, "mean": 0.25, "sum": 0.06, "translation": 0.04}

#: The same for the phase of long texts.
LONG_TEXT_KINDS = {
    "parts": 0.15,
    "questions": 0.5,
    "order": 0.03,
    "mean": 0.1,
    "long mean": 0.15,
    "sum": 0.04,
    "translation": 0.03,
}
LIST_TEXT_KINDS = {
    "parts": 0.06,
    "questions": 0.08,
    "question list": 0.6,
    "order": 0.02,
    "mean": 0.08,
    "long mean": 0.1,
    "sum": 0.03,
    "translation": 0.03,
}
