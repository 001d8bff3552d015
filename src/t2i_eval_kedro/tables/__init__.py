"""Tables that people bring: how files become tables, and what is said about them on the way.

Two rules decide every case. No value is altered, scaled or left out without a setting that the user gave; what is excluded or
interpreted is counted in a note. What cannot be understood stops with a sentence that quotes it and names the setting.
"""

from __future__ import annotations

from t2i_eval_kedro.tables.delimited import Source, TextTable, read_text_table
from t2i_eval_kedro.tables.settings import ReadingSettings

__all__ = ["ReadingSettings", "Source", "TextTable", "read_text_table"]
