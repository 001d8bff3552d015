"""The Python door: a judge, agreement, and a benchmark's tables, without a Kedro session.

>>> from t2i_eval_kedro import agreement, load_judge, read_benchmark
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from t2i_eval_kedro.errors import T2IEvalError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from t2i_eval_kedro.agreement.rated_items import Missing
    from t2i_eval_kedro.benchmarks.base import Benchmark
    from t2i_eval_kedro.judging.judge import Elements, GivenImages, Judge
    from t2i_eval_kedro.judging.project import Project
    from t2i_eval_kedro.models.structure.model import StructureModel
    from t2i_eval_kedro.reporting.agreement import Grouping
    from t2i_eval_kedro.tables import ReadingSettings, Source

BackendName = Literal["transformers", "vllm", "openai"]


def load_judge(
    model: str | Path,
    *,
    protocol: str = "levels",
    untrained: bool = False,
    base: str | Path | None = None,
    student: str | None = None,
    backend: BackendName = "transformers",
    base_url: str | None = None,
    dimensions: Mapping[str, str] | None = None,
    elements: Elements | Path | str | None = None,
    images: str | Path = "",
    answers: str | Path | None = None,
    params: Mapping[str, Any] | None = None,
    project: str | Path | None = None,
) -> Judge:
    """Load a judge of text-to-image images.

    Args:
        model: an adapter (a folder, or a repository of the Hugging Face hub), or a model (folder, hub name, or for ``openai`` the
            name that the server knows).
        protocol: how the judge is asked; docs/protocols.md lists the names.
        untrained: judge with a model that has no adapter. Such a model has not learned to judge, so it must be asked for.
        base: folder or hub name of the adapter's base model; by default the one that the adapter names, looked for beside it.
        student: recipe with the model's wording and precision; by default the one whose model this is, else neutral settings.
        backend: what runs the model: ``transformers``, ``vllm``, or ``openai`` for a server that speaks OpenAI's API.
        base_url: address of that server, ending in ``/v1``; the key is read from OPENAI_API_KEY.
        dimensions: what is scored: name -> phrase that the judge is asked with.
        elements: parts of the prompts (a file, or prompt -> elements), for the protocols that ask about them.
        images: folder that relative image paths start from.
        answers: SQLite file that keeps every answer, so that an interrupted judging resumes.
        params: parameters on top of the settings, as ``kedro run --params`` takes them, nested.
        project: folder of a Kedro project whose ``conf`` is used in place of the package's defaults.

    Returns:
        A judge to be called with images and prompts.

    Raises:
        T2IEvalError: there is no such model, it has no adapter and ``untrained`` is false, or the adapter belongs to another base.

    Example:
        >>> judge = load_judge("data/06_models/tiny_vlm", untrained=True)
        >>> judge.name
        'tiny_vlm'
    """
    from t2i_eval_kedro.config import merge
    from t2i_eval_kedro.judging.judge import GivenImages
    from t2i_eval_kedro.judging.known_elements import read_elements
    from t2i_eval_kedro.judging.project import SIMILARITY, open_judge

    known = read_elements(Path(elements)) if isinstance(elements, str | Path) else elements
    root = None if project is None else Path(project)
    store = GivenImages(Path(images))
    judging: dict[str, Any] = {"answers": None if answers is None else str(answers)}
    chosen: dict[str, Any] = {"params": params or {}, "root": root, "judging": judging}
    if backend == "openai":
        return served_judge(
            str(model),
            base_url,
            protocol=protocol,
            images=store,
            dimensions=dimensions,
            elements=known,
            params=merge({"judging": judging}, params or {}),
            root=root,
            keep_answers=answers is not None,
        )
    if base_url is not None:
        raise T2IEvalError("base_url is the address of a server; give backend='openai' as well.")
    judging["backend"] = backend
    if protocol == SIMILARITY:
        judging["similarity"] = {"model": str(model)}
        opened = _project(**chosen)
        return open_judge(
            opened, None, name=str(model), protocol=protocol, images=store, dimensions=dimensions, elements=known
        )
    resolved = resolve_judge(model, untrained=untrained, base=base, student=student, **chosen)
    return open_judge(
        resolved.project,
        resolved.adapter,
        name=resolved.name,
        protocol=protocol,
        images=store,
        dimensions=dimensions,
        elements=known,
        keep_answers=answers is not None,
    )


def load_structure(model: str | Path, *, device: str = "auto", threads: int | None = None) -> StructureModel:
    """Load a model that says where an image is broken, and how badly.

    Args:
        model: folder of a trained model, such as ``data/06_models/shapes_structure/tiny_vlm/full/seed_0/structure_hybrid``.
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        threads: torch's threads on the CPU; None leaves them as they are.

    Returns:
        A model whose ``predict(images, prompts)`` gives for each image its ``score``, its ``mask`` and its ``heat``.

    Raises:
        T2IEvalError: the folder holds no such model, or its frozen backbones are missing or others.
    """
    import torch

    from t2i_eval_kedro.models.loading import device_of
    from t2i_eval_kedro.models.structure.model import load_structure as load

    if threads is not None:
        torch.set_num_threads(threads)
    return load(model, device_of(device))


class ResolvedJudge(NamedTuple):
    """A judge that is known and not loaded yet: its settings, the adapter's folder (None: untrained), its name."""

    project: Project
    adapter: Path | None
    name: str


def resolve_judge(
    model: str | Path,
    *,
    untrained: bool = False,
    base: str | Path | None = None,
    student: str | None = None,
    params: Mapping[str, Any] | None = None,
    root: Path | None = None,
    judging: Mapping[str, Any] | None = None,
) -> ResolvedJudge:
    """Which base model, adapter and settings ``model`` means; see :func:`load_judge`.

    Args:
        model: an adapter or a model, a folder or a name on the hub.
        untrained: whether a model without an adapter is meant.
        base: base model of the adapter, where it is not the one that the adapter names.
        student: recipe with the model's settings.
        params: parameters on top of all others.
        root: a Kedro project; None for the package's defaults.
        judging: settings of ``judging`` below ``params``.
    """
    chosen: dict[str, Any] = {"params": params or {}, "root": root, "judging": judging or {}}
    adapter = _adapter(model)
    if adapter is not None:
        recorded = _recorded(adapter)
        base_model = str(base) if base is not None else _find_base(str(recorded.get("name") or ""), adapter)
        project = _project(**chosen, base=base_model, student=student, recorded=recorded, adapter=adapter)
        return ResolvedJudge(project, adapter, _judge_name(adapter))
    if not untrained:
        raise T2IEvalError(
            f"'{model}' is not an adapter, and a model without one has not learned to judge; give the folder of a trained "
            "adapter, or ask for the untrained model (untrained=True, --untrained)."
        )
    name = Path(model).name if Path(model).is_dir() else str(model)
    return ResolvedJudge(_project(**chosen, base=str(model), student=student), None, name)


def _adapter(model: str | Path) -> Path | None:
    """The adapter's folder that ``model`` is or names on the hub; None where it is a model.

    Raises:
        T2IEvalError: a path at which there is neither, or an incomplete adapter.
    """
    from t2i_eval_kedro.datasets.adapter import MANIFEST, check_folder
    from t2i_eval_kedro.models.loading import model_folder

    folder = Path(model).expanduser()
    if (folder / "adapter_config.json").is_file():
        if (folder / MANIFEST).is_file():
            check_folder(folder)
        return folder
    if model_folder(model) is not None:
        return None
    from huggingface_hub import file_exists, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    from t2i_eval_kedro.benchmarks.fetch import network_errors

    try:
        if not file_exists(str(model), "adapter_config.json"):
            return None
        needed = ["adapter_config.json", "adapter_model.safetensors", "settings.json", "vocabulary.txt"]
        return Path(snapshot_download(str(model), allow_patterns=needed))
    except RepositoryNotFoundError as error:
        raise T2IEvalError(
            f"'{model}' is neither a folder here nor a repository on the Hugging Face hub; correct the path or the name."
        ) from error
    except network_errors():
        return None  # a model in the local cache may still load


def _recorded(adapter: Path) -> dict[str, Any]:
    """What an adapter of this project says about its base model; for another, what peft recorded."""
    settings, config = adapter / "settings.json", adapter / "adapter_config.json"
    try:
        if settings.is_file():
            base = json.loads(settings.read_text(encoding="utf-8"))["base_model"]
            return {key: base.get(key) for key in ("name", "revision", "dtype", "quantize") if base.get(key)}
        given = json.loads(config.read_text(encoding="utf-8"))
        return {
            "name": given["base_model_name_or_path"],
            **({"revision": given["revision"]} if given.get("revision") else {}),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise T2IEvalError(
            f"Adapter '{adapter}' does not name its base model ({error}); give it with base=..."
        ) from error


def _find_base(name: str, adapter: Path) -> str:
    """The base model called ``name``: a folder of that name beside the adapter or above it, else a name on the hub."""
    if (Path(name) / "config.json").is_file():
        return name
    for parent in adapter.resolve().parents:
        if (parent / Path(name).name / "config.json").is_file():
            return str(parent / Path(name).name)
    if "/" in name and not Path(name).is_absolute():
        return name
    raise T2IEvalError(
        f"The base model '{name}' of adapter '{adapter}' is not beside the adapter or in a folder above it; give its folder or hub "
        "name with base=..."
    )


def _project(
    *,
    params: Mapping[str, Any],
    root: Path | None,
    judging: Mapping[str, Any],
    env: str | None = None,
    base: str | None = None,
    student: str | None = None,
    recorded: Mapping[str, Any] | None = None,
    adapter: Path | None = None,
) -> Project:
    """The settings that a judge is asked with: those of its student's recipe, then the adapter's, then ``params``."""
    from t2i_eval_kedro.config import merge
    from t2i_eval_kedro.judging.project import Project, axes_of

    ours: dict[str, Any] = {"judging": dict(judging)}
    opened = Project.open(root, env, params)
    if base is not None:
        ours["model"] = {"model": base} | {key: value for key, value in (recorded or {}).items() if key != "name"}
        place = None if adapter is None else axes_of(adapter, _root_of(adapter))
        named = student or opened.student_of((recorded or {}).get("name") or base)
        if named is None and place is not None and place.student in opened.config.students:
            named = place.student
        if named is None and "student" not in params:
            return opened.neutral(merge(ours, params))
        if named is not None:
            ours["student"] = named
    return Project.open(root, env, merge(ours, params))


def _root_of(adapter: Path) -> Path:
    """The project's folder, where the adapter lies below its ``data/06_models``; else the working folder."""
    parents = adapter.resolve().parents
    return next((p.parent.parent for p in parents if p.name == "06_models" and p.parent.name == "data"), Path())


def _judge_name(adapter: Path) -> str:
    """An adapter's path below ``data/06_models``, or the name of its folder."""
    resolved, root = adapter.resolve(), _root_of(adapter)
    models = (root / "data" / "06_models").resolve()
    return resolved.relative_to(models).as_posix() if resolved.is_relative_to(models) else resolved.name


def served_judge(
    model: str,
    base_url: str | None,
    *,
    protocol: str,
    images: GivenImages | None = None,
    dimensions: Mapping[str, str] | None = None,
    elements: Elements | None = None,
    params: Mapping[str, Any] | None = None,
    root: Path | None = None,
    env: str | None = None,
    keep_answers: bool = False,
    references: bool = False,
) -> Judge:
    """A judge behind a server that speaks OpenAI's API; see :func:`load_judge`.

    Args:
        model: the name that the server knows.
        base_url: the server's address; None for OpenAI's own, or for the one that ``params`` name.
        protocol: name of a protocol.
        images: where images are read; by default relative to the working folder.
        dimensions: what is scored (name -> phrase).
        elements: the parts of each prompt, where they are known.
        params: parameters on top of neutral settings and those of the environment.
        root: a Kedro project; None for the package's defaults.
        env: configuration environment, as of :meth:`Project.open`.
        keep_answers: whether every answer is kept in ``judging.answers`` of ``params`` or of the project.
        references: whether reference images will be shown.
    """
    from t2i_eval_kedro.config import merge
    from t2i_eval_kedro.judging.project import open_judge

    server: dict[str, Any] = {"model": model} | ({} if base_url is None else {"base_url": base_url})
    judging: dict[str, Any] = {"backend": "openai", "server": server}
    if root is None:
        judging["answers"] = None
    ours: dict[str, Any] = {"model": {"model": model}, "judging": judging}
    opened = _project(params=params or {}, root=root, judging={}, env=env)
    opened = opened.neutral(merge(merge(opened.config.environment, ours), params or {}))
    return open_judge(
        opened,
        None,
        name=model,
        protocol=protocol,
        images=images,
        dimensions=dimensions,
        elements=elements,
        keep_answers=keep_answers,
        references=references,
    )


@dataclass(frozen=True, repr=False)
class Agreement:
    """How well evaluators' scores agree with people's ratings.

    Attributes:
        summary: every figure with its interval or the reason why there is none, in plain JSON types; docs/agreement.md explains it.
    """

    summary: Mapping[str, Any]

    def table(self, by: Grouping = "none") -> pd.DataFrame:
        """One row per evaluator and dimension, with the interval of each statistic.

        Args:
            by: groups (``prompt``, ``generator``, ``skill``) within which agreement is computed and then averaged.
        """
        from t2i_eval_kedro.reporting.agreement import agreement_table

        return agreement_table(self.summary, by).frame

    def differences(self) -> pd.DataFrame:
        """One row per pair of evaluators and dimension: the difference in Spearman, its interval and p-values."""
        from t2i_eval_kedro.reporting.agreement import differences_table

        return differences_table(self.summary).frame

    def plot(self, dimension: str | None = None, statistic: str = "spearman") -> Figure:
        """A forest plot of ``statistic`` on ``dimension``, by default the overall one or the first.

        Raises:
            T2IEvalError: nobody rated the dimension.
        """
        from t2i_eval_kedro.reporting import figures, tables
        from t2i_eval_kedro.reporting.inputs import order_dimensions, plain, statistic_label

        rows = tables.agreement(self.summary)
        names = order_dimensions(list(rows["dimension"]))
        chosen = dimension if dimension is not None else next(iter(names), "")
        if chosen not in names:
            raise T2IEvalError(f"There is no dimension '{chosen}'; the dimensions are {', '.join(names)}.")
        drawn = rows[(rows["dimension"] == chosen) & (rows["statistic"] == statistic)]
        confidence = float(self.summary["settings"]["confidence"])
        return figures.forest(drawn, statistic_label(statistic), title=plain(chosen), level=confidence)

    def to_html(self, path: str | Path | None = None, by: Grouping = "none") -> str:
        """The tables as one page that fetches nothing; also written to ``path`` where one is given."""
        from t2i_eval_kedro.datasets.atomic import atomic_file
        from t2i_eval_kedro.reporting.agreement import build_agreement

        page = build_agreement(self.summary, by)
        if path is not None:
            with atomic_file(Path(path)) as temporary:
                temporary.write_text(page, encoding="utf-8")
        return page

    def to_latex(self, by: Grouping = "none") -> str:
        """The table of agreement as LaTeX (booktabs), its title as the caption."""
        from t2i_eval_kedro.reporting.agreement import agreement_table

        table = agreement_table(self.summary, by)
        return table.frame.to_latex(index=False, escape=True, caption=table.title.replace("%", r"\%"))

    def save(self, folder: str | Path, by: Grouping = "none") -> None:
        """Write ``agreement.json`` and ``agreement.html`` to ``folder``."""
        from t2i_eval_kedro.datasets.atomic import atomic_file

        with atomic_file(Path(folder) / "agreement.json") as path:
            path.write_text(json.dumps(self.summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        self.to_html(Path(folder) / "agreement.html", by)

    def text(self, by: Grouping = "none") -> str:
        """All tables, and what was noted about the input, as text."""
        from t2i_eval_kedro.reporting.agreement import agreement_tables
        from t2i_eval_kedro.reporting.inputs import plain

        parts = [f"{table.title}\n{table.frame.to_string(index=False)}" for table in agreement_tables(self.summary, by)]
        notes = [f"{plain(name)}: {count}" for name, count in self.summary.get("input", {}).items() if count]
        input_notes = self.summary.get("input_notes", ())
        return "\n\n".join(
            [
                *(["\n".join(input_notes)] if input_notes else []),
                *parts,
                *(["Input: " + "; ".join(notes)] if notes else []),
            ]
        )

    def __repr__(self) -> str:
        """Print the tables."""
        return self.text()

    def _repr_html_(self) -> str:
        """Show the tables in a notebook."""
        from t2i_eval_kedro.reporting.agreement import agreement_tables

        return "".join(
            f"<h4>{table.title}</h4>{table.frame.to_html(index=False, border=0)}"
            for table in agreement_tables(self.summary)
        )


def agreement(
    ratings: Source | None,
    scores: Source | None,
    preferences: Source | None = None,
    *,
    pairwise_scores: Source | None = None,
    scale: tuple[float, float] | None = None,
    lower_is_better: Sequence[str] = (),
    settings: ReadingSettings | None = None,
    missing: Missing = "drop",
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Measure how well evaluators' scores agree with people's ratings.

    Args:
        ratings: CSV file or data frame with item_id, prompt_id, generator, rater_id, dimension, score, and optionally skill.
        scores: CSV file or data frame with item_id, evaluator (or judge and protocol), score, and optionally dimension.
        preferences: CSV file or data frame with prompt_id, item_a, item_b, rater_id, label (a, b or tie).
        pairwise_scores: evaluators' own verdicts: prompt_id, item_a, item_b, evaluator, label.
        scale: lowest and highest possible rating; by default the range of the ratings.
        lower_is_better: evaluators whose low scores mean good images.
        settings: how the tables are read: scales, missing codes, identifiers, labels, other column names.
        missing: policy for a rated item without a score: ``drop``, ``worst`` (the evaluator's worst score), ``mean`` or ``refuse``.
        n_resamples: bootstrap resamples of whole prompts, and permutations.
        confidence: confidence level of the intervals, 0 to 1.
        seed: random seed; the same seed gives the same result.

    Raises:
        T2IEvalError: a table cannot be read or lacks a column, or a score is missing and ``missing`` is ``refuse``.

    Example:
        >>> import pandas as pd
        >>> rows = [(f"p{i}{g}", f"p{i}", g, "r1", "overall", i % 3 + (g == "a")) for i in range(12) for g in "ab"]
        >>> ratings = pd.DataFrame(rows, columns=["item_id", "prompt_id", "generator", "rater_id", "dimension", "score"])
        >>> scores = pd.DataFrame({"item_id": ratings["item_id"], "evaluator": "copy", "score": ratings["score"]})
        >>> agreement(ratings, scores, n_resamples=100).table()[["evaluator", "Spearman", "n"]].to_string(index=False)
        'evaluator             Spearman  n\\n     copy 1.000 [1.000, 1.000] 24'
    """
    from t2i_eval_kedro.agreement.inputs import read_input
    from t2i_eval_kedro.agreement.outcome import withhold_rmse
    from t2i_eval_kedro.agreement.summary import summarise

    given = read_input(
        ratings,
        scores,
        preferences,
        pairwise_scores=pairwise_scores,
        scale=scale,
        lower_is_better=lower_is_better,
        settings=settings,
    )
    measured = summarise(
        given.items,
        given.ratings,
        given.scores,
        n_resamples=n_resamples,
        confidence=confidence,
        seed=seed,
        missing=missing,
        preferences=given.preferences,
        preference_scores=given.pairwise_scores,
        shown_pairs=given.shown_pairs,
        unidentified_raters=given.unidentified_raters,
    )
    if not given.same_scale:
        withhold_rmse(measured)
    return Agreement({"input": given.report, "input_notes": list(given.notes)} | measured)


def read_benchmark(name: str, raw_root: str | Path = "data/01_raw", **options: Any) -> Benchmark:
    """Read a public benchmark, or a folder of your own CSV files, into canonical tables.

    Args:
        name: name of a reader, or of a folder with items.csv and ratings.csv.
        raw_root: folder that contains the folder ``name``.
        options: what the reader takes, as ``n_prompts`` and ``seed`` for the embedded ``shapes``.

    Returns:
        The benchmark: ``items``, ``ratings``, ``elements`` and the like as data frames, ``images()`` as (key, encoded image).

    Raises:
        T2IEvalError: there are no such files, or they cannot be read.

    Example:
        >>> shapes = read_benchmark("shapes", n_prompts=2, seed=0)
        >>> len(shapes.items), shapes.synthetic
        (16, True)
    """
    from t2i_eval_kedro.benchmarks.registry import read_benchmark as read

    return read(name, Path(raw_root), **options)
