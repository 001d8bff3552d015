"""Every protocol by its name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from t2i_eval_kedro.judging.protocols import dsg, holistic, pn_vqa, similarity, skills
from t2i_eval_kedro.judging.protocols.base import Protocol
from t2i_eval_kedro.judging.protocols.conversation import Conversation
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed, DecomposedLevels
from t2i_eval_kedro.judging.protocols.decomposed_grouped import DecomposedGrouped
from t2i_eval_kedro.judging.protocols.direct import Direct, DirectLevels
from t2i_eval_kedro.judging.protocols.dsg import DependencyPropagation, Dsg
from t2i_eval_kedro.judging.protocols.holistic import Holistic
from t2i_eval_kedro.judging.protocols.levels import Levels
from t2i_eval_kedro.judging.protocols.parsing import ScoreReading
from t2i_eval_kedro.judging.protocols.pn_vqa import PnVqa
from t2i_eval_kedro.judging.protocols.reasoning import PairRule, Pairwise, Reasoning, ReasoningAspects
from t2i_eval_kedro.judging.protocols.similarity import Similarity
from t2i_eval_kedro.judging.protocols.skills import Skills
from t2i_eval_kedro.judging.protocols.wording import Wording
from t2i_eval_kedro.steps import ASPECTS, CONVERSATION, OVERALL, YES_NO

TAUGHT, EXPECTED = "taught", "expected"
"""Words of ``judging.protocols`` that stand for protocols; :func:`resolved` says for which."""


def _folders(given: object) -> object:
    """One folder as a tuple of one, and null as none."""
    return () if given is None else (given,) if isinstance(given, str) else given


class ProtocolOptions(BaseModel):
    """What protocols leave to the settings.

    Attributes:
        answer_vocabulary: for ``levels``, the words that scores are given in. ``digits`` are the wording's levels, the others
            its vocabularies. Read as ``scale``, too, for one release.
        categories: whether ``levels`` names the categories of the prompt's elements in its request, where they are known.
        score_reading: how the scores in generated answers are read, ``tolerant``, ``strict`` or ``as_published``
            (:func:`~t2i_eval_kedro.judging.protocols.parsing.parse_score`).
        dependency_propagation: for ``dsg``, how far a failed parent reaches: ``none``, ``direct`` (as published) or ``all``
            the way. Read as ``zeroing``, too, for one release.
        tie: for pairs of images, the largest difference of two scores (0 to 10) that is still a tie.
        slope: for pairs of images, how steeply the probability of a preference rises with the difference
            (:class:`~t2i_eval_kedro.judging.protocols.reasoning.PairRule`).
        text_stages: for the decomposed protocols, whether the stages that go by what earlier ones found (a question's score, the
            summaries, the merge) are asked without the image (ours) or with it (published).
        evidence: for ``decomposed`` and ``decomposed_levels``, the folder of a trained network of structure, or several, whose score and regions
            stand before the requests about appearance (ours); of several, the first that did not learn from an image speaks about it
            (:mod:`t2i_eval_kedro.judging.evidence`). Empty or null for none.
    """

    model_config = ConfigDict(extra="forbid")

    answer_vocabulary: Literal["digits", "words", "letters", "yes_no"] = Field(
        default="digits", validation_alias=AliasChoices("answer_vocabulary", "scale")
    )
    categories: bool = False
    score_reading: ScoreReading = "tolerant"
    dependency_propagation: DependencyPropagation = Field(
        default="direct", validation_alias=AliasChoices("dependency_propagation", "zeroing")
    )
    text_stages: bool = True
    evidence: Annotated[tuple[str, ...], BeforeValidator(_folders)] = ()

    tie: float = Field(default=0.5, ge=0)
    slope: float = Field(default=1.0, gt=0)

    @property
    def pair_rule(self) -> PairRule:
        """How the scores of two images become a preference."""
        return PairRule(self.tie, self.slope)

    def levels(self, wording: Wording) -> Levels:
        """The protocol ``levels``, which also writes the direct score requests that students learn from."""
        return Levels(
            wording, vocabulary=self.answer_vocabulary, categories=self.categories, reading=self.score_reading
        )


@dataclass(frozen=True)
class Entry:
    """One protocol of the registry.

    Attributes:
        build: makes it from a wording and the options.
        dimensions: what it scores, whatever people rated; empty where it scores whatever it is asked for.
        candidate_tokens: the words that a request lets the judge choose among; each must be one token of its model.
        elements: whether it scores the elements of a prompt one by one, which can be compared with people's labels of them.
        taught_by: the tasks (``examples.tasks``) whose examples teach a student to be asked by it.
        expects: the protocol whose last answers it reads as expected scores over rating tokens, or "".
        pairs: whether it is asked about two images of one prompt at a time, and not about one.
    """

    build: Callable[[Wording, ProtocolOptions], Protocol]
    dimensions: tuple[str, ...] = ()
    candidate_tokens: Callable[[Wording, ProtocolOptions], tuple[str, ...]] = lambda wording, options: ()
    elements: bool = False
    taught_by: tuple[str, ...] = ()
    expects: str = ""
    pairs: bool = False


def _yes_no(wording: Wording, options: ProtocolOptions) -> tuple[str, ...]:
    return wording.vocabulary(YES_NO).levels


PROTOCOLS: Mapping[str, Entry] = {
    "levels": Entry(
        lambda wording, options: options.levels(wording),
        candidate_tokens=lambda wording, options: options.levels(wording).vocabulary.levels,
        taught_by=("score",),
    ),
    "decomposed": Entry(
        lambda wording, options: Decomposed(
            wording,
            reading=options.score_reading,
            text_stages=options.text_stages,
            evidence=bool(options.evidence),
        ),
        (OVERALL, *ASPECTS),
        taught_by=("subtasks", "published_subtasks"),
    ),
    "decomposed_levels": Entry(
        lambda wording, options: DecomposedLevels(
            wording,
            reading=options.score_reading,
            text_stages=options.text_stages,
            evidence=bool(options.evidence),
        ),
        (OVERALL, *ASPECTS),
        candidate_tokens=lambda wording, options: wording.levels,
        expects="decomposed",
    ),
    "decomposed_flat": Entry(
        lambda wording, options: DecomposedGrouped(
            wording, by_aspect=False, reading=options.score_reading, text_stages=options.text_stages
        ),
        (OVERALL, *ASPECTS),
    ),
    "decomposed_by_aspect": Entry(
        lambda wording, options: DecomposedGrouped(
            wording, by_aspect=True, reading=options.score_reading, text_stages=options.text_stages
        ),
        (OVERALL, *ASPECTS),
    ),
    "holistic": Entry(lambda wording, options: Holistic(wording), holistic.DIMENSIONS),
    "pn_vqa": Entry(
        lambda wording, options: PnVqa(wording), pn_vqa.DIMENSIONS, _yes_no, elements=True, taught_by=("elements",)
    ),
    "dsg": Entry(
        lambda wording, options: Dsg(wording, propagation=options.dependency_propagation),
        dsg.DIMENSIONS,
        _yes_no,
        elements=True,
    ),
    "skills": Entry(lambda wording, options: Skills(wording), skills.DIMENSIONS, taught_by=("skills",)),
    "reasoning": Entry(lambda wording, options: Reasoning(wording), taught_by=("reason",)),
    "reasoning_aspects": Entry(lambda wording, options: ReasoningAspects(wording), taught_by=("reason_aspects",)),
    "pairwise": Entry(lambda wording, options: Pairwise(wording, options.pair_rule), pairs=True),
    "similarity": Entry(lambda wording, options: Similarity(), similarity.DIMENSIONS),
    CONVERSATION: Entry(lambda wording, options: Conversation(wording), (OVERALL, *ASPECTS), taught_by=(CONVERSATION,)),
    "direct": Entry(lambda wording, options: Direct(wording, reading=options.score_reading), taught_by=("direct",)),
    "direct_levels": Entry(
        lambda wording, options: DirectLevels(wording, reading=options.score_reading),
        candidate_tokens=lambda wording, options: wording.levels,
        expects="direct",
    ),
}


def resolved(names: Iterable[str], tasks: Collection[str]) -> list[str]:
    """``names`` without the words that stand for others, in their order, each once.

    ``taught`` stands for the protocols that a student of ``tasks`` was taught to be asked by; ``expected`` for those that read the
    last answers of them as expected scores. Others are run because they are named.
    """
    taught = [name for name, entry in PROTOCOLS.items() if set(entry.taught_by) & set(tasks)]
    stand_for = {TAUGHT: taught, EXPECTED: [name for name, entry in PROTOCOLS.items() if entry.expects in taught]}
    return list(dict.fromkeys(protocol for name in names for protocol in stand_for.get(name, [name])))


def known_or_resolved(name: str) -> str:
    """``name``, if it is a protocol's or one of the words of :func:`resolved`.

    Raises:
        ValueError: it is neither.
    """
    return name if name in (TAUGHT, EXPECTED) else known(name)


def known(name: str) -> str:
    """``name``, if it is a protocol's.

    Raises:
        ValueError: there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"there is no protocol '{name}'; the protocols are {', '.join(PROTOCOLS)}")
    return name


def build(name: str, wording: Wording, options: ProtocolOptions | None = None) -> Protocol:
    """The protocol ``name`` (see :func:`known`) in the words of ``wording``."""
    return PROTOCOLS[known(name)].build(wording, options or ProtocolOptions())


def candidate_tokens_of(
    names: Iterable[str], wording: Wording, options: ProtocolOptions
) -> tuple[tuple[str, ...], ...]:
    """What the protocols ``names`` let a judge choose among, to be checked when its model is loaded."""
    return tuple(tokens for name in names if (tokens := PROTOCOLS[name].candidate_tokens(wording, options)))
