import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from bcd.data.copies.alignment import compare, portray
from bcd.data.copies.find import SCENE_SIMILARITY, CopyPair, find_copies, group_cases
from bcd.data.copies.hashing import MIRROR, WINDOWS, WORDS, Hashes, default_radius, hash_image, near_hashes
from bcd.data.copies.neighbours import PARTNERS, Candidates, look_up
from bcd.data.manifest import Case
from bcd.data.sources.phantom_simulator import draw_anatomy, draw_lesion, simulate
from bcd.data.splits import check_split, find_crossings, read_split

Grey = NDArray[np.uint8]
SPLITS = Path(__file__).parents[1] / "conf" / "data" / "splits"


def speckle(anatomy: int, frame: int = 0, shape: tuple[int, int] = (240, 300)) -> Grey:
    """Return an image: the anatomy decides the large forms, the frame decides the speckle."""
    forms = cv2.GaussianBlur(np.random.default_rng([anatomy]).normal(size=shape), (0, 0), 18)
    waves = np.random.default_rng([anatomy, frame]).normal(size=(2, *shape))
    envelope = np.hypot(*(cv2.GaussianBlur(wave, (0, 0), 1.6) for wave in waves))
    grey = 90 + 35 * forms / forms.std() + 22 * np.log(envelope / envelope.mean() + 1e-3)
    return np.clip(grey, 0, 255).astype(np.uint8)


def copy_of(image: Grey, rng: np.random.Generator) -> Grey:
    """Return a second export: cropped by up to 8 % in all, rescaled, regreyed, with calipers and text."""
    height, width = image.shape
    top, bottom, left, right = rng.uniform(0, 0.04, 4)
    cut = image[round(top * height) : round((1 - bottom) * height), round(left * width) : round((1 - right) * width)]
    scale = rng.uniform(0.7, 1.4)
    grey = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR) / 255
    grey = np.clip(rng.uniform(0.8, 1.2) * grey ** rng.uniform(0.7, 1.4) + rng.uniform(-0.05, 0.05), 0, 1)
    marked = np.ascontiguousarray((255 * grey).astype(np.uint8))
    for row, column in rng.integers(20, 120, (4, 2)):
        cv2.drawMarker(marked, (int(column), int(row)), 255, cv2.MARKER_CROSS, 11)
    cv2.putText(marked, "RT UOQ", (10, marked.shape[0] - 12), 0, 0.5, 255, 1)
    return marked


def pair(first: str, second: str, similarity: float = 1.0) -> CopyPair:
    return CopyPair(first, second, similarity, overlap=1.0, distance=0)


def case(case_id: str, label: str | None = "benign", patient: str | None = None) -> Case:
    return Case(case_id, Path(f"{case_id}.png"), label=label, patient=patient)


def clusters(pairs: Iterable[CopyPair]) -> list[list[str]]:
    found = list(pairs)
    names = sorted({name for one in found for name in (one.first, one.second)})
    return [part["case_id"].tolist() for _, part in group_cases([case(name) for name in names], found).groupby("cluster")]


def test_crops_rescales_contrast_changes_and_marks_are_found_and_nothing_else_is() -> None:
    rng = np.random.default_rng(0)
    images = [speckle(anatomy) for anatomy in range(30)]
    case_ids = [f"case {number:02d}" for number in range(30)]
    names = case_ids + [f"{name} copy" for name in case_ids[:20]]
    found = find_copies(names, (images + [copy_of(image, rng) for image in images[:20]]).__getitem__)
    assert [(copies.first, copies.second) for copies in found] == [(name, f"{name} copy") for name in case_ids[:20]]
    assert min(copies.similarity for copies in found) > 0.8


def test_another_frame_of_the_same_anatomy_is_not_a_copy() -> None:
    images = [speckle(anatomy, frame) for anatomy in range(8) for frame in (0, 1)]
    assert find_copies([str(number) for number in range(16)], images.__getitem__) == []


def test_a_case_id_that_stands_twice_is_refused_and_no_or_one_image_has_no_copies() -> None:
    with pytest.raises(ValueError, match="a: is twice"):
        find_copies(["a", "a"], [speckle(0), speckle(1)].__getitem__)
    assert find_copies([], [].__getitem__) == []
    assert find_copies(["a"], [speckle(0)].__getitem__) == []


def test_identical_images_without_texture_are_copies_and_do_not_blow_up() -> None:
    blank = np.zeros((60, 80), np.uint8)
    assert clusters(find_copies(list("abcd"), [blank, speckle(1), blank, blank].__getitem__)) == [["a", "c", "d"]]


def test_an_identical_image_is_as_alike_as_can_be_and_an_unrelated_one_is_not() -> None:
    first, second = portray(speckle(0)), portray(speckle(1))
    assert compare(first, first).similarity == 1.0
    assert compare(first, second).similarity < SCENE_SIMILARITY


def test_an_image_has_a_hash_for_each_window_and_scale_and_gain_hardly_change_it() -> None:
    image = speckle(0)
    hashes = hash_image(image)
    assert (hashes.dtype, hashes.shape) == (np.uint64, (len(WINDOWS), WORDS))
    bright = np.clip(image * 1.2 + 5, 0, 255).astype(np.uint8)
    assert int(np.bitwise_count(hashes[0] ^ hash_image(cv2.resize(bright, (400, 300)))[0]).sum()) <= 12


def test_the_hash_of_a_mirrored_image_is_known_from_the_image() -> None:
    mirrored = hash_image(np.ascontiguousarray(speckle(3)[:, ::-1]))
    assert int(np.bitwise_count(mirrored[0] ^ hash_image(speckle(3))[0] ^ MIRROR).sum()) <= 4


def test_a_mirrored_copy_is_found_and_says_so() -> None:
    images = [speckle(anatomy) for anatomy in range(6)] + [np.ascontiguousarray(speckle(2)[6:, ::-1])]
    (found,) = find_copies([str(number) for number in range(7)], images.__getitem__)
    assert (found.first, found.second, found.mirrored) == ("2", "6", True)


@pytest.mark.parametrize("radius", [0, 3, 8, 12, 16])
def test_the_search_finds_exactly_the_pairs_that_comparing_all_does(radius: int) -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, 60, dtype=np.uint64).repeat(4)
    for _ in range(6):
        hashes ^= np.uint64(1) << rng.integers(0, 64, len(hashes), dtype=np.uint64)
    every = {(i, j): int(np.bitwise_count(hashes[i] ^ hashes[j])) for i, j in combinations(range(len(hashes)), 2)}
    found = near_hashes(hashes[:, None, None], radius)
    pairs = zip(np.minimum(found.first, found.second).tolist(), np.maximum(found.first, found.second).tolist(), strict=True)
    assert dict(zip(pairs, found.distance.tolist(), strict=True)) == {pair: bits for pair, bits in every.items() if bits <= radius}


def test_the_search_tells_which_window_of_which_image_resembles_the_other() -> None:
    hashes = np.array([[0, 2**40 - 1], [2**64 - 1, 2**20 - 1], [2**40 - 2, 2**63 + 5]], np.uint64)
    found = near_hashes(hashes[..., None], radius=4)
    assert (found.first.tolist(), found.second.tolist(), found.window.tolist(), found.distance.tolist()) == ([0], [2], [1], [1])


def test_hashes_are_searched_from_a_memory_map(tmp_path: Path) -> None:
    np.save(tmp_path / "hashes.npy", np.array([7, 2**50, 5], np.uint64)[:, None, None])
    found = near_hashes(np.load(tmp_path / "hashes.npy", mmap_mode="r"), radius=2)
    assert sorted(found.first.tolist() + found.second.tolist()) == [0, 2]


@pytest.mark.parametrize("search", [near_hashes, lambda hashes: look_up(hashes, 8)])
def test_thousands_of_equal_hashes_are_chained_not_paired_with_each_other(search: Callable[[Hashes], Candidates]) -> None:
    found = search(np.zeros((3000, 1, 1), np.uint64))
    assert len(found.first) <= 3000 * PARTNERS
    names = [f"{number:04d}" for number in range(3000)]
    chained = clusters(pair(names[i], names[j]) for i, j in zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert [len(cluster) for cluster in chained] == [3000]


def test_a_crowd_of_like_images_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        near_hashes(np.zeros((200, 1, 1), np.uint64), radius=4)
    assert "200 images have over 64 similar hashes" in caplog.text


def scattered(count: int, rng: np.random.Generator) -> tuple[Hashes, list[tuple[int, int]]]:
    """Return hashes (count, W, 2) of which the last hundred resemble a window of the first hundred, 16 bits changed."""
    hashes = rng.integers(0, 2**64, (count, len(WINDOWS), WORDS), dtype=np.uint64)
    for index in range(100):
        noise = np.zeros(128, np.uint8)
        noise[rng.permutation(128)[:16]] = 1
        hashes[count - 1 - index, 0] = hashes[index, index % len(WINDOWS)] ^ np.packbits(noise).view(np.uint64)
    return hashes, [(index, count - 1 - index) for index in range(100)]


def test_looking_up_finds_nearly_every_copy_and_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes, copies = scattered(4000, np.random.default_rng(2))
    found = look_up(hashes, 24, MIRROR)
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert len(set(copies) & set(pairs)) >= 99
    assert all(found.distance[pairs.index(copy)] == 16 for copy in copies if copy in pairs)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    again = look_up(hashes, 24, MIRROR)
    assert (again.first.tolist(), again.second.tolist()) == (found.first.tolist(), found.second.tolist())


def test_looking_up_agrees_with_comparing_all() -> None:
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 2**64, 500, dtype=np.uint64).repeat(4)
    for _ in range(4):
        hashes ^= np.uint64(1) << rng.integers(0, 64, len(hashes), dtype=np.uint64)
    every, found = near_hashes(hashes[:, None, None], 12), look_up(hashes[:, None, None], 12)
    missed = set(zip(every.first.tolist(), every.second.tolist(), strict=True)) - set(
        zip(found.first.tolist(), found.second.tolist(), strict=True)
    )
    assert len(every.first) >= 2900
    assert len(missed) <= 0.005 * len(every.first)


def test_the_default_radius_narrows_as_images_become_more() -> None:
    hashes = np.random.default_rng(4).integers(0, 2**64, (60_000, 1, WORDS), dtype=np.uint64)
    radii = [default_radius(hashes[:count]) for count in (100, 1000, 60_000)]
    assert radii == sorted(radii, reverse=True)
    assert radii[0] == 44 > radii[2] >= 16


PEAK = """
import resource, sys
import numpy as np
from bcd.data.copies.hashing import MIRROR, near_hashes
count = int(sys.argv[1])
hashes = np.random.default_rng(0).integers(0, 2**64, (count, 21, 2), dtype=np.uint64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
near_hashes(hashes, 20, MIRROR)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_grows_in_proportion_to_the_images() -> None:
    peaks = [
        int(subprocess.run([sys.executable, "-c", PEAK, str(count)], capture_output=True, check=True).stdout)
        for count in (15_000, 30_000)
    ]
    assert peaks[1] <= 2.5 * peaks[0] + 8_000  # kB


def phantom(number: int) -> Grey:
    rng = np.random.default_rng([number, 77])
    anatomy = draw_anatomy(rng)
    return simulate(rng, anatomy, draw_lesion(rng, number % 2 == 0), (200, 240))[0]


def planted(image: Grey, rng: np.random.Generator) -> Grey:
    """Return a second export as copy_of does, half of them saved as JPEG, a fifth mirrored."""
    cut = copy_of(image, rng)
    if rng.random() < 0.5:
        cut = np.asarray(
            cv2.imdecode(cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 95))])[1], 0), np.uint8
        )
    return np.ascontiguousarray(cut[:, ::-1]) if rng.random() < 0.2 else cut


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_copies_planted_among_phantoms_are_found_with_recall_and_precision_of_99_percent(count: int) -> None:
    rng = np.random.default_rng(count)
    images = [phantom(number) for number in range(count)]
    images += [planted(image, rng) for image in images]
    found = find_copies([str(number) for number in range(2 * count)], images.__getitem__)
    right = {(str(number), str(number + count)) for number in range(count)}
    pairs = {(copies.first, copies.second) for copies in found}
    assert len(pairs & right) >= 0.99 * count
    assert len(pairs & right) >= 0.99 * len(pairs)


def test_clusters_are_the_connected_components_sorted() -> None:
    assert clusters([pair("d", "c"), pair("a", "e"), pair("c", "b")]) == [["a", "e"], ["b", "c", "d"]]


def test_a_group_joins_patient_and_copies_and_a_cluster_copies_alone() -> None:
    cases = [case("a", patient="1"), case("b", patient="1"), case("c", patient="2"), case("d", patient="3"), case("e")]
    grouped = group_cases(cases, [pair("b", "c")])
    assert list(grouped.columns) == ["case_id", "group", "cluster", "contradictory"]
    assert grouped["group"].tolist() == ["a", "a", "a", "3", "e"]
    assert grouped["cluster"].tolist() == ["a", "b", "b", "d", "e"]
    assert grouped["contradictory"].tolist() == [False] * 5


def test_frames_of_one_scene_join_a_group_and_contradict_nothing() -> None:
    grouped = group_cases([case("a"), case("b", "malignant"), case("c")], [pair("a", "b", 0.5)])
    assert grouped["group"].tolist() == ["a", "a", "c"]
    assert grouped["cluster"].tolist() == ["a", "b", "c"]
    assert not grouped["contradictory"].any()


def test_all_cases_of_a_cluster_with_two_labels_are_contradictory() -> None:
    cases = [case("a"), case("b"), case("c", "malignant"), case("d", "malignant"), case("e", None)]
    copies = [pair("a", "b"), pair("b", "c"), pair("d", "e")]
    assert group_cases(cases, copies)["contradictory"].tolist() == [True, True, True, False, False]


def test_a_group_of_one_patient_does_not_take_the_name_of_another_group() -> None:
    cases = [case("1", patient="7"), case("2", patient="8"), case("3", patient="1"), case("4", patient="9")]
    assert group_cases(cases, [pair("1", "2")])["group"].tolist() == ["1", "1", "3", "9"]


def test_a_pair_that_names_no_case_is_refused() -> None:
    with pytest.raises(ValueError, match="z: a copy pair names it"):
        group_cases([case("a")], [pair("a", "z")])


@pytest.fixture(scope="module")
def busi_audit(busi: Path) -> tuple[list[Case], list[CopyPair]]:
    images = sorted(path for path in busi.glob("*/*.png") if re.fullmatch(r"\w+ \(\d+\)", path.stem))
    cases = [Case(path.stem, path, label=path.parent.name) for path in images]
    pairs = find_copies(
        [case.case_id for case in cases],
        lambda index: np.asarray(cv2.imread(str(images[index]), cv2.IMREAD_GRAYSCALE), np.uint8),
        SCENE_SIMILARITY,
    )
    return cases, pairs


@pytest.mark.realdata
@pytest.mark.slow
def test_no_near_copy_group_of_busi_crosses_the_committed_split(busi_audit: tuple[list[Case], list[CopyPair]]) -> None:
    cases, pairs = busi_audit
    split, groups = read_split(SPLITS / "busi.csv"), group_cases(cases, pairs)
    check_split(split, [case.case_id for case in cases], groups)
    assert find_crossings(split, groups) == []


@pytest.mark.realdata
@pytest.mark.slow
def test_busi_has_about_as_many_copies_as_published_audits_count(busi_audit: tuple[list[Case], list[CopyPair]]) -> None:
    cases, pairs = busi_audit
    grouped: pd.DataFrame = group_cases(cases, pairs)
    sizes = grouped["cluster"].value_counts()
    assert 145 <= (sizes > 1).sum() <= 155
    assert 325 <= sizes[sizes > 1].sum() <= 345
    assert set(grouped.loc[grouped["contradictory"], "cluster"]) == {
        f"benign ({number})" for number in (131, 164, 269, 333, 399, 406, 433, 437)
    }
