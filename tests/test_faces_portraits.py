"""Real portraits, where there are any: nearly all are aligned, upright, and under their own names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from stylegan_surv.cohort import read_cohort
from stylegan_surv.faces import align

SHARED = os.environ.get("STYLEGAN_SURV_SHARED")


@pytest.mark.slow
@pytest.mark.skipif(SHARED is None, reason="STYLEGAN_SURV_SHARED does not name the folder of the portraits")
def test_at_least_94_percent_of_real_portraits_are_aligned(tmp_path: Path) -> None:
    folder = Path(str(SHARED)) / "data" / "legislators"
    cohort = read_cohort(folder / "clinical.csv", folder / "photos")
    chips = align(cohort, tmp_path, size=128)
    assert list(chips.table["photo_id"]) == list(cohort.table["photo_id"])
    assert len(chips.ok) / len(chips) >= 0.94
    assert chips.failed["error"].notna().all()
    eyes = np.array([np.stack(chips.landmarks(name).ffhq_anchors()[:2]) for name in chips.ok["photo_id"]])  # type: ignore[union-attr]
    level = np.abs(eyes[:, 0, 1] - eyes[:, 1, 1])
    assert np.quantile(level, 0.95) < 6  # pixels of 128
    assert np.abs(np.median(eyes[:, :, 1]) - 0.47 * 128) < 5
