"""Finding the face of a photograph: by the mesh, or by dlib's HOG detector and its 68 points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal

from stylegan_surv.faces.dlib.detect import DlibFinder
from stylegan_surv.faces.found import Finder
from stylegan_surv.faces.mesh.finder import MeshFinder

LandmarksName = Literal["mesh", "dlib68"]
FINDERS: Mapping[LandmarksName, Callable[[], Finder]] = {"mesh": MeshFinder, "dlib68": DlibFinder}


@lru_cache(maxsize=len(FINDERS))
def finder(landmarks: LandmarksName = "mesh") -> Finder:
    """The finder of a kind of landmarks; its networks are loaded once per process, when they are needed."""
    return FINDERS[landmarks]()
