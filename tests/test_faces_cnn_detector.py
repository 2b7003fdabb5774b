"""The CNN detector in torch: dlib's own boxes and scores, its tiling, batches and gradients."""

from __future__ import annotations

import dlib_pictures
import numpy as np
import pytest
import torch
from drawn_face import draw_face, draw_landscape

from stylegan_surv import InputError
from stylegan_surv._images import to_images
from stylegan_surv.faces.dlib.cnn_detector import (
    FILE,
    MARGIN,
    WINDOW,
    CnnDetector,
    cnn_detector,
    decode,
    from_dat,
    tiling,
)
from stylegan_surv.faces.dlib.weights import SOURCES, load

ANSWERS = np.load(dlib_pictures.ANSWERS)


@pytest.fixture(scope="module")
def detector() -> CnnDetector:
    return cnn_detector()


def assert_as_dlib(detector: CnnDetector, score: float) -> None:
    for k, scene in enumerate(dlib_pictures.scenes(ANSWERS["faces"])):
        expected = ANSWERS["detections"][ANSWERS["detections"][:, 0] == k]
        (found,) = detector.detect(to_images(scene)[None])
        np.testing.assert_allclose([f.score for f in found], expected[:, 1], atol=score)
        ends = np.array([f.box for f in found]).reshape(-1, 4) - (0, 0, 1, 1)  # dlib's last pixel is inside
        np.testing.assert_array_equal(ends, expected[:, 2:])


def test_boxes_scores_and_their_order_are_those_of_dlib(detector):
    assert_as_dlib(detector, 1e-3)


def test_full_precision_is_exact():
    face_recognition_models = pytest.importorskip("face_recognition_models")
    assert_as_dlib(from_dat(face_recognition_models.cnn_face_detector_model_location()), 2e-5)


@pytest.mark.slow
def test_the_stored_answers_are_those_that_dlib_gives():
    pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    now = dlib_pictures.ask_detector(ANSWERS["faces"])["detections"]
    np.testing.assert_allclose(now, ANSWERS["detections"], atol=1e-4)


def test_together_is_as_alone(detector):
    scenes = [scene for scene in dlib_pictures.scenes(ANSWERS["faces"]) if scene.shape == (480, 480, 3)]
    scenes.append(np.ascontiguousarray(scenes[0][:, ::-1]))
    images = to_images(np.stack(scenes))
    together = detector.detect(images)
    assert len(together) == len(scenes) > 1
    for image, found in zip(images, together):
        (alone,) = detector.detect(image[None])
        assert [f.box for f in found] == [f.box for f in alone]
        np.testing.assert_allclose([f.score for f in found], [f.score for f in alone], atol=1e-5)


def test_the_drawn_face_is_found_and_the_landscape_is_empty(detector):
    (face,) = detector.detect(to_images(np.asarray(draw_face(256)))[None])[0]
    left, top, right, bottom = face.box
    assert 0 <= left < 98 < 158 < right <= 256  # the eyes lie between
    assert 0 <= top < 122 < 188 < bottom <= 256  # and so do eyes and mouth
    assert detector.detect(to_images(np.asarray(draw_landscape()))[None]) == [[]]


def test_a_higher_threshold_keeps_the_best(detector):
    image = to_images(dlib_pictures.scenes(ANSWERS["faces"])[2])[None]
    (both,) = detector.detect(image)
    (best,) = detector.detect(image, threshold=(both[0].score + both[1].score) / 2)
    assert best == both[:1]


@pytest.mark.parametrize(("height", "width"), [(480, 480), (97, 131), (640, 96), (33, 900), (7, 7), (1, 1)])
def test_tiles_neither_overlap_nor_leave_the_canvas(height, width):
    places = tiling(height, width)
    assert places.tiles[0].tolist() == [MARGIN, MARGIN, width, height]
    used = np.zeros((places.height, places.width), int)
    for left, top, w, h in places.tiles:
        assert left >= 0 <= top
        assert left + w <= places.width
        assert top + h <= places.height
        used[top : top + h, left : left + w] += 1
    assert used.max() == 1
    sizes = places.tiles[:, 2:]
    assert (np.diff(sizes, axis=0) < 0).all()


def test_a_window_lies_where_its_score_is():
    """One score per level: its box has the window's size at that level."""
    places = tiling(480, 480)
    for level, (left, top, w, h) in enumerate(places.tiles.tolist()):
        if min(w, h) < 100:
            continue
        scores = np.zeros((places.height // 8, places.width // 8))
        scores[(top + h // 2 - 14) // 8, (left + w // 2 - 14) // 8] = 1
        ((_, box),) = [(f.score, f.box) for f in decode(scores, places)]
        assert box[2] - box[0] == pytest.approx(WINDOW * 1.2**level, abs=1.2 * 1.2**level)
        assert np.abs(np.array(box).reshape(2, 2).mean(axis=0) - 240).max() < 9 * 1.2**level


def test_of_overlapping_windows_the_best_stays():
    places = tiling(300, 300)
    scores = np.zeros((30, 30))
    scores[10, 10], scores[10, 11], scores[10, 21] = 0.5, 0.9, 0.4  # 8 and 88 pixels apart
    assert [f.score for f in decode(scores, places)] == [0.9, 0.4]


def test_gradients_reach_the_picture(detector):
    image = to_images(np.asarray(draw_face(128)))[None].requires_grad_()
    detector(image).amax().backward()
    assert bool(image.grad.isfinite().all())
    assert float(image.grad.abs().max()) > 0


def test_tiny_pictures_hold_no_face_and_other_shapes_are_refused(detector):
    for side in (1, 6, 7, 20):
        assert detector.detect(torch.zeros(2, 3, side, side)) == [[], []]
    for shape in ((3, 100, 100), (1, 1, 100, 100), (1, 3, 0, 100)):
        with pytest.raises(InputError, match="3, height, width"):
            detector.detect(torch.zeros(shape))


def test_the_card_says_where_the_weights_come_from():
    _, card = load(FILE)
    assert card["source"]["sha256"] == SOURCES[card["source"]["file"]]
    assert "public domain" in card["licence"]
    assert FILE.stat().st_size < 4e5
