"""Names of landmarks in both numberings, and the FFHQ anchors that follow from them."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_face import draw_face
from hypothesis import given
from hypothesis import strategies as st

from stylegan_surv.faces.dlib.detect import DlibFinder
from stylegan_surv.faces.mesh.find import find_faces
from stylegan_surv.faces.mesh.sampling import as_picture
from stylegan_surv.faces.points import DLIB68, MESH468, SCHEMES, FacePoints

UNLIKE = {
    "chin",
    "nose_tip",
    "nose_root",
    "left_cheekbone",
    "right_cheekbone",
}  # other definitions, or up or down


@pytest.mark.parametrize("name", SCHEMES)
def test_names_point_into_the_scheme(name: str) -> None:
    scheme = SCHEMES[name]
    numbers = [*scheme.single.values(), *(i for contour in scheme.contours.values() for i in contour)]
    assert min(numbers) >= 0
    assert max(numbers) < scheme.count
    assert len(set(scheme.single.values())) == len(scheme.single)
    for contour in scheme.contours.values():
        assert len(set(contour)) == len(contour)
    assert not scheme.single.keys() & scheme.contours.keys()


def test_what_dlib_names_the_mesh_names_too() -> None:
    """With contours of the same number of points, in the same order."""
    assert DLIB68.single.keys() <= MESH468.single.keys()
    for name, contour in DLIB68.contours.items():
        assert len(contour) == len(MESH468.contours[name])


def test_names_mean_the_same_place_in_both() -> None:
    """On a drawn face, named points of mesh and dlib lie within an eighth of the inter-eye distance."""
    drawn = draw_face(256)
    pytest.importorskip("face_recognition_models")
    dlib = DlibFinder().find(drawn).points
    mesh = find_faces(as_picture(np.asarray(drawn)))[0].points
    for name in DLIB68.single.keys() - UNLIKE:
        apart = np.hypot(*(dlib[name] - mesh[name])) / dlib.inter_eye
        assert apart < (0.3 if "jaw" in name or "brow" in name else 0.2), name
    for name in ("left_eye", "right_eye", "mouth"):
        assert np.hypot(*(getattr(dlib, name) - getattr(mesh, name))) < 0.1 * dlib.inter_eye
    for contour in ("left_eye", "right_eye", "lips"):
        assert np.hypot(*(dlib[contour] - mesh[contour]).T).max() < 0.2 * dlib.inter_eye


def test_left_is_left_and_down_is_down() -> None:
    mesh = find_faces(as_picture(np.asarray(draw_face(256))))[0].points
    for name in MESH468.single:
        if name.startswith("left_"):
            assert mesh[name][0] < mesh[name.replace("left_", "right_")][0]
    order = ["forehead", "nose_root", "nose_tip", "nose_base", "lip_top", "lip_bottom", "chin"]
    assert np.all(np.diff([mesh[name][1] for name in order]) > 0)


def test_anchors_of_dlib_are_those_of_the_crop() -> None:
    """Karras et al., appendix C: eyes are means of 36–41 and 42–47, the mouth is the middle of 48 and 54."""
    points = np.random.default_rng(0).normal(100, 30, (68, 2))
    expected = points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[[48, 54]].mean(axis=0)
    for ours, theirs in zip(FacePoints(points, DLIB68).ffhq_anchors(), expected):
        assert ours == pytest.approx(theirs)


@given(st.floats(-3, 3), st.floats(0.1, 9), st.floats(-500, 500))
def test_anchors_of_the_mesh_move_with_the_face(turn: float, scale: float, shift: float) -> None:
    face = FacePoints(np.random.default_rng(1).normal(0, 1, (468, 2)), MESH468)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = face.moved(matrix, np.array([shift, 2 * shift]))
    for before, after in zip(face.ffhq_anchors(), moved.ffhq_anchors()):
        assert after == pytest.approx(matrix @ before + (shift, 2 * shift), abs=1e-6)


def test_offsets_are_symmetric() -> None:
    """A mirrored face has the mirrored crop."""
    left, right, mouth = MESH468.offsets
    assert right == pytest.approx(left * (-1, 1))
    assert mouth[0] == 0


def test_wrong_number_of_points() -> None:
    with pytest.raises(ValueError, match="mesh has \\(468, 2\\)"):
        FacePoints(np.zeros((68, 2)), MESH468)
    with pytest.raises(KeyError, match="dlib68 has no landmark 'forehead'"):
        FacePoints(np.zeros((68, 2)), DLIB68)["forehead"]
    assert "forehead" not in FacePoints(np.zeros((68, 2)), DLIB68)
