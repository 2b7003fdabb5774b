"""The clinical report: figures, plain words, page."""

from __future__ import annotations

from stylegan_surv.report.page import render

__all__ = ["render"]
