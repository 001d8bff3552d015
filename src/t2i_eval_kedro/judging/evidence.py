"""Evidence from networks of structure: each image is looked at once, and what was said is kept.

**Held-out honesty (ours).** A network is too sure of the images that it learned from, and a student that is taught with such evidence learns to trust it
more than it deserves. So several networks can be named, and the evidence on an image comes from the first of them that did not learn from it: two
networks that learned from one half of the training prompts each (``structure.half``) give cross-fitted evidence on all training images, and the first of
them on all others. Where no network qualifies, the first one speaks, and the log says for how many images.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from t2i_eval_kedro.datasets.answer_store import AnswerStore
from t2i_eval_kedro.datasets.image_store import decode
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.judging.protocols.base import EvaluationItem
from t2i_eval_kedro.judging.protocols.base import Protocol as AnyProtocol
from t2i_eval_kedro.judging.protocols.decomposed import Decomposed
from t2i_eval_kedro.judging.protocols.evidence import NO_EVIDENCE, MarkedRegion, StructureEvidence

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from t2i_eval_kedro.judging.evaluators import JudgingSettings
    from t2i_eval_kedro.models.structure.model import StructureModel

log = logging.getLogger(__name__)

VERSION = 1  # raised whenever the same network and image give other evidence
BATCH = 16


class EncodedImages(Protocol):
    """Whatever returns the bytes of an image by its key."""

    def read(self, key: str) -> bytes:
        """The encoded image stored under ``key``."""
        ...


class Witness:
    """One trained network, loaded when it is first needed."""

    def __init__(self, folder: Path) -> None:
        """Take the folder of the network.

        Raises:
            T2IEvalError: it holds none.
        """
        self.folder = require_network(folder)

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the network's settings and weights."""
        from t2i_eval_kedro.models.structure.model import CONFIG, WEIGHTS

        return hashlib.sha256(b"".join((self.folder / name).read_bytes() for name in (CONFIG, WEIGHTS))).hexdigest()

    @cached_property
    def model(self) -> StructureModel:
        """The network, on a GPU where there is one."""
        from t2i_eval_kedro.models.loading import device_of
        from t2i_eval_kedro.models.structure.model import load_structure  # torch is slow to import

        return load_structure(self.folder, device_of("auto"))

    @cached_property
    def learned_from(self) -> frozenset[str]:
        """Digests of the images that it learned from; empty, with a warning, where it does not say so."""
        from t2i_eval_kedro.models.structure.model import learned_from

        known = learned_from(self.folder)
        if known is None:
            log.warning(
                "'%s' does not say which images it learned from; train it again to have that kept.", self.folder
            )
        return known or frozenset()


class EvidenceSource:
    """Networks of structure and where images and earlier evidence are."""

    def __init__(self, folders: Sequence[str], images: EncodedImages, store: AnswerStore | None = None) -> None:
        """Take the networks in the order in which they are asked.

        Args:
            folders: folders of trained networks, at least one.
            images: where images are read.
            store: keeps what was said, by network, prompt and the bytes of the image; None to keep nothing.

        Raises:
            T2IEvalError: a folder holds no network.
        """
        self._witnesses = [Witness(Path(folder)) for folder in folders]
        self._images, self._store = images, store

    def add(self, items: Sequence[EvaluationItem]) -> list[EvaluationItem]:
        """``items`` with the evidence on their images; that on an image that cannot be read is `NO_EVIDENCE`."""
        gathered: list[StructureEvidence] = [NO_EVIDENCE] * len(items)
        waiting: dict[tuple[int, str], list[int]] = {}
        data: dict[str, bytes] = {}
        n_learned = 0
        for i, item in enumerate(items):
            try:
                encoded = self._images.read(item.image)
            except (OSError, ValueError, KeyError, T2IEvalError):
                continue
            digest = hashlib.sha256(encoded).hexdigest()
            number, learned = self._choose(digest)
            n_learned += learned
            key = self._key(self._witnesses[number], digest, item.prompt)
            kept = None if self._store is None else self._store.get(key)
            if kept is not None:
                gathered[i] = _from_json(kept["evidence"])
            else:
                waiting.setdefault((number, key), []).append(i)
                data.setdefault(key, encoded)
        if n_learned:
            log.warning(
                "%d of %d images were learned from by every network of structure that gives evidence, which is too good there; name two "
                "that were trained with structure.half=first and second.",
                n_learned,
                len(items),
            )
        for key, places, evidence in self._look(waiting, data, items):
            if self._store is not None and evidence.score is not None:
                self._store.put(key, {"evidence": asdict(evidence)})
            for i in places:
                gathered[i] = evidence
        return [replace(item, evidence=evidence) for item, evidence in zip(items, gathered, strict=True)]

    def _choose(self, digest: str) -> tuple[int, bool]:
        """The number of the network that speaks about an image, and whether it learned from it."""
        from t2i_eval_kedro.models.structure.model import DIGITS

        for number, witness in enumerate(self._witnesses):
            if digest[:DIGITS] not in witness.learned_from:
                return number, False
        return 0, True

    def _key(self, witness: Witness, digest: str, prompt: str) -> str:
        content = json.dumps(["structure evidence", VERSION, witness.identity, digest, prompt], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def _look(
        self, waiting: dict[tuple[int, str], list[int]], data: dict[str, bytes], items: Sequence[EvaluationItem]
    ) -> Iterator[tuple[str, list[int], StructureEvidence]]:
        """Key, places and evidence of each image that nothing is kept about."""
        for number, witness in enumerate(self._witnesses):
            keys = [key for chosen, key in waiting if chosen == number]
            for start in range(0, len(keys), BATCH):
                batch: list[tuple[str, Any]] = []
                for key in keys[start : start + BATCH]:
                    try:
                        batch.append((key, decode(data[key])))
                    except (
                        OSError,
                        ValueError,
                        SyntaxError,
                    ):  # what the judge is told of such an image, its backend says
                        yield key, waiting[number, key], NO_EVIDENCE
                if not batch:
                    continue
                prompts = [items[waiting[number, key][0]].prompt for key, _ in batch]
                results = witness.model.predict([image for _, image in batch], prompts)
                low, high = witness.model.config.scale_min, witness.model.config.scale_max
                for (key, _), result in zip(batch, results, strict=True):
                    score = 10 * (result.score - low) / (high - low)
                    yield key, waiting[number, key], StructureEvidence(round(score, 4), marked_regions(result.mask))


def require_network(folder: Path) -> Path:
    """``folder``, if it holds a trained network of structure.

    Raises:
        T2IEvalError: it does not.
    """
    if not all((folder / name).is_file() for name in ("structure_config.json", "model.safetensors")):
        raise T2IEvalError(
            f"'{folder}' (judging.options.evidence) is not a trained network of structure; train one with kedro run "
            "--pipelines=structure and name its folder, or set judging.options.evidence=null."
        )
    return folder


def marked_regions(mask: npt.NDArray[np.bool_]) -> tuple[MarkedRegion, ...]:
    """The regions of a mask (height, width), the largest first: those that count in the challenge's score as predicted."""
    import numpy as np

    from t2i_eval_kedro.agreement.regions import PREDICTED_AREA, label_regions, resize_mask
    from t2i_eval_kedro.agreement.structure import SIZES

    labels = label_regions(resize_mask(mask.astype(np.uint8)), PREDICTED_AREA)
    out = []
    for number in range(1, int(labels.max(initial=0)) + 1):
        rows, columns = np.nonzero(labels == number)
        share = len(rows) / labels.size
        size = next(name for name, most in SIZES if share <= most)
        y, x = (float(values.mean() + 0.5) / side for values, side in zip((rows, columns), labels.shape, strict=True))
        out.append(MarkedRegion(size, place_in_words(x, y), round(share, 6)))
    return tuple(sorted(out, key=lambda region: -region.share))


def place_in_words(x: float, y: float) -> str:
    """The third of the image (0 to 1, from the upper left) that a point is in: ``upper left``, ``right``, ``middle``.

    Example:
        >>> place_in_words(0.9, 0.1), place_in_words(0.5, 0.5)
        ('upper right', 'middle')
    """
    words = (["upper", "", "lower"][min(int(3 * y), 2)], ["left", "", "right"][min(int(3 * x), 2)])
    return " ".join(filter(None, words)) or "middle"


def add_evidence(
    items: Sequence[EvaluationItem], protocol: AnyProtocol, source: EvidenceSource | None
) -> Sequence[EvaluationItem]:
    """``items``, with the evidence of ``source`` where ``protocol`` is asked with some."""
    if source is None or not (isinstance(protocol, Decomposed) and protocol.evidence):
        return items
    return source.add(items)


def evidence_source(judging: JudgingSettings, images: EncodedImages, *, keep: bool = True) -> EvidenceSource | None:
    """The source of evidence that the settings name; None where they name none.

    Args:
        judging: the settings; ``answers`` is the file that evidence is kept in.
        images: where images are read.
        keep: whether it is kept.

    Raises:
        T2IEvalError: a folder holds no network.
    """
    if not judging.options.evidence:
        return None
    store = AnswerStore(Path(judging.answers)) if keep and judging.answers is not None else None
    return EvidenceSource(judging.options.evidence, images, store)


def _from_json(kept: dict[str, Any]) -> StructureEvidence:
    return StructureEvidence(kept["score"], tuple(MarkedRegion(**region) for region in kept["regions"]))
