"""DSG and TIFA: yes/no questions about the elements of a prompt; a failed parent takes its children with it.

Source: Davidsonian Scene Graph (ICLR 2024) and its released code: an element counts when it is answered "yes" and all its
direct parents are; the item's score is the mean. There only raw answers are looked at, so a grandchild of a failed element
still counts (``direct``). ``all`` goes all the way down, as the description reads; ``none`` is TIFA (ICCV 2023), which has no
dependencies. TIFA's questions with several choices are asked as whether the expected answer is right: ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from t2i_eval_kedro.judging.protocols.base import Answer, EvaluationItem, Request, Score, Verdict
from t2i_eval_kedro.judging.protocols.elements import (
    ALIGNMENT,
    elements_of,
    extract_request,
    mean_score,
    probability_of_yes,
    yes_no_request,
)
from t2i_eval_kedro.judging.protocols.wording import WordedProtocol, Wording
from t2i_eval_kedro.schema import OK, UNPARSED

DIMENSIONS = (ALIGNMENT,)

DependencyPropagation = Literal["none", "direct", "all"]


def propagate_failures(
    passed: Mapping[str, bool], parents: Mapping[str, Sequence[str]], propagation: DependencyPropagation
) -> dict[str, bool]:
    """Which elements count, given which were answered as expected.

    Args:
        passed: by element; a parent that is not in it fails nobody.
        parents: direct parents by element; cycles are allowed and fail together.
        propagation: how far a failure reaches.
    """
    counts = dict(passed)
    for _ in range({"none": 0, "direct": 1, "all": len(passed)}[propagation]):
        reached = {
            name: counts[name] and all(counts.get(parent, True) for parent in parents.get(name, ())) for name in counts
        }
        if reached == counts:
            break
        counts = reached
    return counts


class Dsg(WordedProtocol):
    """Asks every question once; an item's score is the share of its elements that count."""

    name = "dsg"
    version = 1

    def __init__(self, wording: Wording, *, propagation: DependencyPropagation = "direct") -> None:
        """Ask in the words of ``wording``; ``propagation`` is how far a failed parent reaches."""
        super().__init__(wording)
        self.propagation: DependencyPropagation = propagation

    @property
    def label(self) -> str:
        """Name, with the propagation where it is not the published one, and wording, each with its version."""
        return self.wording.label(
            self.name if self.propagation == "direct" else f"{self.name}_{self.propagation}", self.version
        )

    def requests(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Sequence[Request]:
        """The extraction where the item has no elements, then all questions at once."""
        elements = elements_of(item, answers)
        if elements is None:
            return [extract_request(self.wording, item)]
        asked = [yes_no_request(self.wording, item, element) for element in elements]
        return [request for request in asked if request.step not in answers]

    def verdict(self, item: EvaluationItem, answers: Mapping[str, Answer]) -> Verdict:
        """1 or 0 an element after propagation, and their mean as the alignment."""
        elements = elements_of(item, answers) or ()
        read: dict[str, Score] = {}
        for element in elements:
            share = probability_of_yes(answers.get(f"yes_no/{element.element_id}"), self.wording)
            if isinstance(share, float):
                # Exactly one half is neither yes nor no.
                share = Score(None, UNPARSED, "as likely yes as no") if share == 0.5 else Score(float(share > 0.5), OK)
            read[element.element_id] = share
        passed = {name: score.value == 1 for name, score in read.items() if score.status == OK}
        counts = propagate_failures(
            passed, {element.element_id: element.parents for element in elements}, self.propagation
        )
        scores = {
            name: Score(float(counts[name]), OK, None if counts[name] == passed[name] else "a parent failed")
            if name in counts
            else score
            for name, score in read.items()
        }
        return Verdict({ALIGNMENT: mean_score(scores, answers)}, elements=scores)
