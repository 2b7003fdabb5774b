"""How results show themselves in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping


def facts_table(title: str, facts: Mapping[str, object]) -> str:
    """A small HTML table of names and values; every text is escaped.

    >>> facts_table("Cohort", {"patients": 3})
    '<table><caption>Cohort</caption><tr><th>patients</th><td>3</td></tr></table>'
    """
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table><caption>{html.escape(title)}</caption>{rows}</table>"
