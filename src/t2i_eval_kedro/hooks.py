"""Kedro hooks: the one secret of the project enters here."""

from __future__ import annotations

import os
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from pydantic import SecretStr


class TeacherKey:
    """Puts the teacher's key into the catalog, in memory alone and in a form that prints as asterisks."""

    @hook_impl
    def after_catalog_created(self, catalog: CatalogProtocol[Any, Any], conf_creds: dict[str, Any]) -> None:
        """Take ``teacher.api_key`` from ``conf/local/credentials.yml``, else OPENAI_API_KEY; it stays None where there is neither."""
        key = (conf_creds.get("teacher") or {}).get("api_key") or os.environ.get("OPENAI_API_KEY")
        if key and "teacher_key" in catalog:
            catalog["teacher_key"].save(SecretStr(key))
