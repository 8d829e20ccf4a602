"""Labels from views: what agrees is a label, what does not is masked."""

import numpy as np
import pytest

from fieldtune.errors import DataError, ModelError
from zoo.consensus import VIEWS, View, consensus, predictions
from zoo.task import OutputSpec

DEPTH = OutputSpec("depth", "depth", "l1", "truth", max_depth=20.0)
SEGMENTS = OutputSpec("segments", "segmentation", "cross_entropy", "truth")
KIND = OutputSpec("kind", "class", "cross_entropy", "truth")
VALUE = OutputSpec("value", "value", "mse", "truth")
IMAGE = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)


def test_what_is_predicted_of_a_view_is_turned_back() -> None:
    """A network that sees each pixel by itself says the same of an image and of its mirror image."""

    def pixelwise(image: np.ndarray) -> dict[str, np.ndarray]:
        return {"depth": image[..., :1] / 50 + 1.0, "segments": np.eye(3)[image[..., 0] % 3]}

    found = predictions(pixelwise, IMAGE, (View(), View(mirrored=True)))
    assert found["depth"].shape == (2, 6, 8, 1)
    np.testing.assert_array_equal(found["depth"][0], found["depth"][1])
    label, mask = consensus(found["segments"], SEGMENTS)
    assert mask.all()
    np.testing.assert_array_equal(label[..., 0], IMAGE[..., 0] % 3)
    # One that looks at where a pixel is does not.
    columns = np.broadcast_to(np.arange(8), (6, 8))
    found = predictions(lambda _: {"depth": 1.0 + columns[..., None]}, IMAGE, (View(), View(mirrored=True)))
    np.testing.assert_array_equal(found["depth"][1, :, ::-1], found["depth"][0])


def test_gain_makes_pixels_brighter_up_to_white() -> None:
    shown = View(gain=1.25).of(IMAGE)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, np.minimum(np.rint(IMAGE * 1.25), 255))
    np.testing.assert_array_equal(View(mirrored=True, gain=0.5).of(IMAGE), View(gain=0.5).of(IMAGE)[:, ::-1])


def test_depth_is_the_mean_where_views_differ_by_no_more_than_the_share() -> None:
    views = np.array([[2.0, 2.0, 4.0, -1.0, np.nan], [2.2, 2.3, 4.0, -1.0, 2.0]]).reshape(2, 1, 5, 1)
    label, mask = consensus(views, DEPTH, most_spread=0.1)
    assert mask.ravel().tolist() == [1, 0, 1, 0, 0]
    assert (label.dtype, mask.dtype) == (np.float32, np.uint8)
    np.testing.assert_allclose(label.ravel(), [2.1, 0, 4, 0, 0], rtol=1e-6)
    assert consensus(views, DEPTH, most_spread=0.2)[1].ravel().tolist() == [1, 1, 1, 0, 0]


def test_a_class_is_known_where_all_views_have_it_first() -> None:
    scores = np.eye(4)[np.array([[[0, 1, 2]], [[0, 1, 3]], [[0, 2, 3]]])]
    label, mask = consensus(scores, SEGMENTS)
    assert (label.shape, label.dtype) == ((1, 3, 1), np.int32)
    assert label.ravel().tolist() == [0, 0, 0]
    assert mask.ravel().tolist() == [1, 0, 0]
    label, mask = consensus(scores[:, :, 2:3][1:], KIND)
    assert (label.item(), mask.item()) == (3, 1)


def test_agreement_takes_two_views_of_what_a_mirror_leaves_as_it_is() -> None:
    with pytest.raises(DataError, match="two views or more, not 1"):
        consensus(np.ones((1, 2, 2, 1)), DEPTH)
    with pytest.raises(ModelError, match='value is of kind "value"; what a mirror does to it'):
        consensus(np.ones((2, 1, 1, 1)), VALUE)


def test_the_default_views_are_the_image_and_others() -> None:
    np.testing.assert_array_equal(VIEWS[0].of(IMAGE), IMAGE)
    shown = {view.of(IMAGE).tobytes() for view in VIEWS}
    assert len(shown) == len(VIEWS) >= 2
