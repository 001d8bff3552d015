"""EvalAlign's 11 skills: what each asks, its options, and the two aggregates.

Source: EvalAlign (arXiv 2406.16562) and its released code. The options are the release's; the wording of the five
faithfulness questions, and of the alignment questions where the release has none for a prompt, is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FAITHFULNESS, ALIGNMENT = "faithfulness", "alignment"
NOT_PRESENT = -1
_GRADES = ("very grievous problems", "serious problems", "slight problems", "basically no problems", "no problems")
_AGREEMENT = ("all wrong, or none is there", "some are wrong or missing", "all are right")


@dataclass(frozen=True)
class Skill:
    """One skill.

    Attributes:
        name: ``<aspect>/<skill>``; also the name of the dimension and of the element.
        about: what is asked: a whole question for faithfulness, a phrase for alignment.
        options: the numbers that answer it, worst to best, without that for "not present".
        may_be_absent: whether -1, "there is none in the image", is an answer too.
    """

    name: str
    about: str
    options: tuple[int, ...]
    may_be_absent: bool = False

    @property
    def aspect(self) -> str:
        """``faithfulness`` or ``alignment``."""
        return self.name.partition("/")[0]

    @property
    def answers(self) -> tuple[int, ...]:
        """Every number that is an answer."""
        return (NOT_PRESENT, *self.options) if self.may_be_absent else self.options

    def question(self, content: str = "") -> str:
        """The question with its options; ``content`` is what the prompt says about an alignment skill."""
        if self.aspect == FAITHFULNESS:
            asked, grades = self.about, list(_GRADES)
        else:
            asked, grades = f"Judge {self.about}{f' ({content})' if content else ''}.", list(_AGREEMENT)
        named = [f"{grade}: {name}" for grade, name in enumerate(grades)]
        if self.may_be_absent:
            named.insert(0, f"{NOT_PRESENT}: there is none in the image")
        return f"{asked} Choose one. {'; '.join(named)}."


def _skills() -> Iterable[Skill]:
    for name, about, may_be_absent in (
        (
            "body",
            "Do the bodies of the people or animals in the image have the right parts, proportions and posture?",
            True,
        ),
        ("hand", "Do the hands of the people in the image have the right number of fingers and a natural shape?", True),
        ("face", "Do the faces in the image have the right features, in place and undistorted?", True),
        (
            "object",
            "Do the objects in the image, apart from people and animals, have a right and undistorted structure?",
            False,
        ),
        ("common_sense", "Does what the image shows agree with common sense and the laws of nature?", False),
    ):
        yield Skill(f"{FAITHFULNESS}/{name}", about, tuple(range(5)), may_be_absent)
    for name, about in (
        ("Object", "whether all objects of the prompt are in the image"),
        ("Count", "whether the numbers of objects are those of the prompt"),
        ("Color", "whether the colours are those of the prompt"),
        ("Style", "whether the style is that of the prompt"),
        ("Spatial", "whether the objects stand to each other as the prompt says"),
        ("Action", "whether the actions are those of the prompt"),
    ):
        yield Skill(f"{ALIGNMENT}/{name}", about, tuple(range(3)))


SKILLS: Mapping[str, Skill] = {skill.name: skill for skill in _skills()}
