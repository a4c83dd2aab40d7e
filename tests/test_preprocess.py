import numpy as np
import pytest

from bcd.preprocess import Preprocess


@pytest.mark.parametrize(("height", "width"), [(128, 128), (57, 200), (200, 57), (1000, 3), (31, 32)])
def test_there_and_back_gives_the_original_size_and_no_padding(height: int, width: int) -> None:
    preprocess = Preprocess(size=64)
    fitted = preprocess.fit_mask(np.ones((height, width), np.uint8))
    top, left, fitted_height, fitted_width = preprocess.box(height, width)
    assert fitted.sum() == fitted_height * fitted_width
    assert fitted[top : top + fitted_height, left : left + fitted_width].all()
    back = preprocess.back(fitted.astype(np.float32), height, width)
    assert back.shape == (height, width)
    assert (back == 1).all()


def test_the_aspect_ratio_is_kept() -> None:
    assert Preprocess(size=100).box(200, 100) == (0, 25, 100, 50)


def test_a_disc_comes_back_where_it_was() -> None:
    rows, columns = np.mgrid[:301, :412]
    disc = ((rows - 120) ** 2 + (columns - 250) ** 2 < 60**2).astype(np.uint8)
    preprocess = Preprocess(size=128)
    back = preprocess.back(preprocess.fit_mask(disc).astype(np.float32), 301, 412) >= 0.5
    assert 2 * (back & (disc > 0)).sum() / (back.sum() + disc.sum()) > 0.97


def test_grey_values_are_standardised_as_said() -> None:
    image = Preprocess(size=16).standardise(np.array([[0, 255]], np.uint8))
    assert image.tolist() == [[[-1.0, pytest.approx(1.0)]]]


def test_config_rebuilds_the_same_preprocessing() -> None:
    preprocess = Preprocess(size=96, mean=0.3)
    assert Preprocess(**preprocess.config()) == preprocess  # type: ignore[arg-type]
