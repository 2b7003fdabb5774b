"""Without dlib and without the package that carries the 68 points: alignment, doubles and identity work as ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from drawn_face import draw_face

SCRIPT = """
import sys
sys.modules["dlib"] = sys.modules["face_recognition_models"] = None  # importing either now fails
from stylegan_surv.errors import InputError
from stylegan_surv.faces import align, same_person
from stylegan_surv.inversion.identity import similarity
from stylegan_surv._images import to_images
chips = align(sys.argv[1], sys.argv[2], size=64, workers=1)
assert list(chips.table["status"]) == ["ok", "ok"], chips.table["error"]
assert len(same_person(chips)) == 1
a, b = (to_images(chips.load(name))[None] for name in ("a", "b"))
assert similarity(a, b).item() > 0.95
try:
    align(sys.argv[1], sys.argv[2] + "68", landmarks="dlib68")
except InputError as error:
    assert "pip install 'stylegan-surv[dlib68]'" in str(error), error
else:
    raise AssertionError("dlib68 ran without dlib")
"""


def test_everything_but_the_68_points_runs_without_dlib(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    draw_face(200).save(tmp_path / "photos" / "a.png")
    draw_face(260).save(tmp_path / "photos" / "b.png")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "photos"), str(tmp_path / "chips")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
