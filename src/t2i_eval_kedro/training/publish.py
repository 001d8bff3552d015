"""Publishes an adapter folder to the Hugging Face hub, with the agreement that was measured written into its card."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from t2i_eval_kedro.benchmarks.fetch import hub_endpoint, network_errors
from t2i_eval_kedro.datasets.adapter import CARD, check_folder
from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.models.adapters import AGREEMENT_HEADING
from t2i_eval_kedro.schema import evaluators_of
from t2i_eval_kedro.summary_keys import with_current_keys


def push_adapter(
    folder: Path,
    repo: str,
    *,
    summary: Mapping[str, Any] | None = None,
    private: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Upload the files of adapter ``folder`` to the model repository ``repo`` in one commit; make the repository if there is none.

    The folder itself is not changed. The token is read from ``HF_TOKEN``, the hub's address from ``HF_ENDPOINT``.

    Args:
        folder: an adapter folder, checked to be complete; its name is the judge's in ``summary``.
        repo: ``owner/name``.
        summary: what ``meta_evaluation`` measured, for the card that is uploaded.
        private: whether a repository that is made is private.
        dry_run: whether to say only what would be uploaded, without network access.
        say: function that receives what is done, one line at a time; never the token.

    Raises:
        T2IEvalError: the folder is not complete, there is no token, or the hub refuses or cannot be reached.
    """
    check_folder(folder)
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise T2IEvalError(f"'{repo}' is not a repository name; write OWNER/NAME.")
    files: dict[str, Path | bytes] = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    if summary is not None:
        files[CARD] = with_agreement((folder / CARD).read_text(encoding="utf-8"), summary, folder.name).encode()
    for name, content in files.items():
        say(f"{name} ({len(content) if isinstance(content, bytes) else content.stat().st_size:,} bytes)")
    if dry_run:
        say(f"Nothing was uploaded; these {len(files)} files would go to {repo}.")
        return
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise T2IEvalError("There is no token to write to the hub with; put one into the environment as HF_TOKEN.")
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=hub_endpoint(), token=token)
    added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
    # ValueError: the hub refuses a card whose head is no YAML.
    faults: tuple[type[Exception], ...] = (*network_errors(), ValueError)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(repo, added, commit_message="Adapter and card")
    except faults as error:
        reason = str(error).strip().split("\n")[0].replace(token, "...")
        raise T2IEvalError(
            f"{hub_endpoint()} did not take the adapter as {repo} ({reason}); check HF_TOKEN and the name."
        ) from None
    say(f"{len(files)} files are at {hub_endpoint()}/{repo}, commit {commit.oid}.")


def with_agreement(card: str, summary: Mapping[str, Any], judge_name: str) -> str:
    """``card`` with the section on agreement filled from a ``summary.json``: Spearman of the adapter by each protocol.

    Args:
        card: the text of an adapter's ``README.md``.
        summary: what the pipeline ``meta_evaluation`` wrote.
        judge_name: the adapter's judge, such as ``sft``.

    Raises:
        T2IEvalError: the card has no such section, or the summary does not measure the judge.
    """
    summary = with_current_keys(summary)
    judges = evaluators_of(summary)
    measured = {name: protocol for name, (judge, protocol) in judges.items() if judge == judge_name}
    if not measured:
        raise T2IEvalError(
            f"The summary measures no judge '{judge_name}'; it measures {', '.join(sorted({j for j, _ in judges.values()}))}."
        )
    before, heading, rest = card.partition(AGREEMENT_HEADING)
    if not heading:
        raise T2IEvalError(f"The card has no section '{AGREEMENT_HEADING}'; it was not written by this project.")
    settings = summary["settings"]
    lines = [
        f"Spearman correlation with people's mean score on the fold `{summary['fold']}` of `{summary['benchmark']}`"
        + (", a **synthetic** benchmark" if summary["synthetic"] else "")
        + f"; {settings['confidence']:.0%} interval, {settings['interval']}.",
        "",
        "| asked by | dimension | Spearman | items |",
        "|---|---|---|---|",
    ]
    for name, protocol in measured.items():
        for dimension, statistics in summary["evaluators"].get(name, {}).items():
            figure = statistics["spearman"]
            if figure["value"] is not None:
                shown = f"{figure['value']:.3f}"
                if figure["low"] is not None:
                    shown += f" [{figure['low']:.3f}, {figure['high']:.3f}]"
                lines.append(f"| {protocol} | {dimension} | {shown} | {figure['n']} |")
    _, _, after = rest.partition("\n## ")
    return f"{before}{heading}\n\n" + "\n".join(lines) + (f"\n\n## {after}" if after else "\n")
