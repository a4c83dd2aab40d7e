"""The page that reads images: files or examples in, class, outline and measurements out."""

from pathlib import Path

import streamlit as st

from bcd.app.frame import sentence
from bcd.app.images.card_dialog import card_button
from bcd.app.images.compare_view import show_comparison
from bcd.app.images.image_view import show_image
from bcd.app.images.many_view import choose_image
from bcd.app.images.reader import Desk, Reader
from bcd.app.images.tables import results_table
from bcd.app.images.take_home import Found, take_home
from bcd.app.images.uploads import FORMATS, Read, Upload, distinct_names, read_upload, within_limits
from bcd.app.images.wording import point_meaning
from bcd.app.settings import Settings
from bcd.images.scan import Scan, read_scans
from bcd.predictor.bundle import EXAMPLES, Bundle
from bcd.predictor.bundles.default import bundles_in
from bcd.predictor.bundles.examples import NAMES
from bcd.predictor.bundles.hashes import HASHES, BundleError, read_hashes, read_sealed
from bcd.predictor.options import PredictOptions
from bcd.reports.wording import point_name

_MOST_BOXES = 3


def show() -> None:
    """Show the page."""
    settings = Settings.from_environment()
    reader = _chosen_reader(settings)
    bundle = reader.predictor.bundle
    desk: Desk = st.session_state.setdefault("desk", Desk())
    options, opacity, other = _options(reader, settings)
    st.header("Read breast ultrasound images")
    with st.container(horizontal=True, vertical_alignment="center"):
        card_button(bundle)
        note = settings.note if bundle.folder == settings.bundle else ""
        st.caption(sentence(f"Model: {bundle.name}. {note}".strip()))
    st.html('<p class="bcd-narrow">Operating point, sliders and a second model are behind the arrows at the top left.</p>')
    if bundle.synthetic:
        st.warning(
            "This model learned from simulated images. Use it to try the page; what it says of a patient's image means nothing."
        )
    files, read = _files(desk, settings, reader)
    scans, problems = within_limits(read)
    _tell(problems)
    if scans:
        _show_results(desk, reader, other, scans, options, opacity)
    elif not problems:
        st.info("Upload images above, or pick an example. They are read on the machine that serves this page, and not kept.")
    desk.tidy(files, [key for key, _ in scans])


def _tell(problems: list[str]) -> None:
    """Show what was wrong: a box for each, or one for all where they would push the results out of sight."""
    if len(problems) <= _MOST_BOXES:
        for problem in problems:
            st.error(sentence(problem))
    else:
        told = "\n".join(f"- {sentence(problem)}" for problem in problems)
        st.error(f"**{len(problems)} things to mend**\n\n{told}")


def _show_results(
    desk: Desk, reader: Reader, other: Reader | None, scans: list[tuple[str, Scan]], options: PredictOptions, opacity: float
) -> None:
    bundle = reader.predictor.bundle
    names = distinct_names([scan for _, scan in scans])
    quick = PredictOptions(options.point, options.mask_threshold)
    results = []
    bar = st.progress(0.0, "Reading the images") if len(scans) > 1 else None
    for number, (key, scan) in enumerate(scans, start=1):
        results.append(desk.result(reader, key, scan, quick))
        if bar is not None:
            bar.progress(number / len(scans), f"{number} of {len(scans)} images are read")
    if bar is not None:
        bar.empty()
    by_hand = [key in desk.outlines for key, _ in scans]
    table = results_table(names, results, bundle, by_hand)
    place = choose_image(table, bundle.positive) if len(scans) > 1 else 0
    key, scan = scans[place]
    name = names[place]
    result = desk.result(reader, key, scan, options)
    show_image(desk, key, name, scan, result, reader, opacity)
    if other is not None:
        show_comparison(scan, result, desk.result(other, key, scan, PredictOptions()), bundle, other.predictor.bundle, opacity)
    take_home(Found(names, [scan for _, scan in scans], results, by_hand, table), bundle, opacity)


def _files(desk: Desk, settings: Settings, reader: Reader) -> tuple[list[str], list[tuple[str, Read]]]:
    """Return the keys of the files, and what each gave."""
    uploaded = st.file_uploader(
        f"Images: {FORMATS}",
        type=None,
        accept_multiple_files=True,
        key="uploads",
        help="Read in memory. Nothing is written to a disk, and nothing is sent anywhere else.",
    )
    picked = st.pills("Or simulated examples", NAMES, selection_mode="multi", key="examples")
    read = []
    for file in uploaded:
        if file.file_id not in desk.read:
            desk.read[file.file_id] = read_upload(Upload(file.file_id, file.name, file.getvalue()), settings.max_pixels)
        read.append((file.file_id, desk.read[file.file_id]))
    folder = reader.predictor.bundle.folder
    for name in picked:
        key = f"example/{reader.predictor.bundle.fingerprint}/{name}"
        if key not in desk.read and folder is not None:
            desk.read[key] = _example(folder, name, settings.max_pixels)
        read.append((key, desk.read[key]))
    return [key for key, _ in read], read


def _example(folder: Path, name: str, max_pixels: int) -> Read:
    try:
        content = read_sealed(folder, f"{EXAMPLES}/{name}.png", read_hashes(folder))
        return Read(tuple(read_scans(content, f"example_{name}.png", max_pixels)))
    except ValueError as error:
        return Read((), (str(error),))


def _options(reader: Reader, settings: Settings) -> tuple[PredictOptions, float, Reader | None]:
    """Return what the sidebar asks for, how strong the overlay is, and the bundle to compare with."""
    predictor, bundle = reader.predictor, reader.predictor.bundle
    point, cut, uncertainty, heat_map = None, None, False, False
    with st.sidebar:
        if predictor.points:
            point = _point(bundle, predictor.points)
        opacity = st.slider("Overlay opacity", 0.0, 1.0, 0.5, 0.05, key="opacity", disabled=not predictor.outlines)
        if bundle.mask_threshold is not None:
            cut = st.slider(
                "Outline threshold",
                0.02,
                0.98,
                float(bundle.mask_threshold),
                0.02,
                key=f"threshold/{bundle.fingerprint}",
                help="A pixel belongs to the outline from this probability on. A lower one draws larger outlines.",
            )
            cut = None if cut == bundle.mask_threshold else cut
        uncertainty = st.toggle("How sure is it?", key="uncertainty", help="Several looks at the image; takes longer.")
        if predictor.classifies:
            heat_map = st.toggle("What does the class rest on?", key="heat_map", help="A heat map of the image; takes longer.")
        other = _other_reader(reader, settings)
    return PredictOptions(point, cut, uncertainty, heat_map), opacity, other


def _point(bundle: Bundle, points: dict[str, float]) -> str:
    names = list(points)
    first = names.index(bundle.decisions.default_point) if bundle.decisions.default_point in names else 0
    chosen = st.selectbox("Operating point", names, first, format_func=point_name, key=f"point/{bundle.fingerprint}")
    st.caption(sentence(point_meaning(chosen, bundle)))
    return chosen


def _chosen_reader(settings: Settings) -> Reader:
    """Return the bundle that the visitor chose; a sentence ends the run where it cannot be used."""
    folders = bundles_in([settings.bundle, *settings.bundles])
    names = {folder: f"{folder.name}" for folder in folders}
    with st.sidebar:
        start = next((number for number, folder in enumerate(folders) if folder.resolve() == settings.bundle.resolve()), 0)
        if not folders:
            st.error(sentence(f"{settings.bundle} is gone. Start the page again with bundle= and a folder that is there."))
            st.stop()
        folder = st.selectbox("Model", folders, start, format_func=lambda one: names[one], key="bundle", disabled=len(folders) == 1)
        reader = _load(folder, settings)
        if reader is None:
            st.stop()
    return reader


def _other_reader(reader: Reader, settings: Settings) -> Reader | None:
    here = reader.predictor.bundle.folder
    folders = [one for one in bundles_in([settings.bundle, *settings.bundles]) if one.resolve() != (here or one).resolve()]
    chosen = st.selectbox("Compare with", folders, index=None, placeholder="nothing", format_func=lambda one: one.name, key="other")
    folder = chosen
    if settings.local:
        given = st.text_input("or a bundle's folder", key="other_folder", placeholder="bundles/another").strip()
        folder = Path(given).expanduser() if given else chosen
    return None if folder is None else _load(folder, settings)


def _load(folder: Path, settings: Settings) -> Reader | None:
    """Return a bundle's reader; None, and a sentence on the page, where it cannot be used."""
    try:
        return _loaded(str(folder), _stamp(folder), settings.trusted)
    except BundleError as error:
        st.error(sentence(str(error)))
    except (ValueError, OSError, RuntimeError) as error:
        st.error(sentence(f"{folder} cannot be used: {error}"))
    return None


@st.cache_resource(max_entries=3, show_spinner="Loading the model")
def _loaded(folder: str, stamp: float, trusted: tuple[str, ...]) -> Reader:
    return Reader.load(Path(folder), trusted)


def _stamp(folder: Path) -> float:
    """Return when a bundle was sealed: one that was made anew is loaded anew."""
    path = folder / HASHES
    return path.stat().st_mtime if path.is_file() else 0.0
