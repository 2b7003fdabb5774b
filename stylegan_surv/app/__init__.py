"""The health attribute in the browser: a page on this machine alone, and the server behind it."""

from __future__ import annotations

from stylegan_surv.app.serve import ServeSettings, serve

__all__ = ["ServeSettings", "serve"]
