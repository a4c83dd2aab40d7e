"""The page of images: files or examples in; segmentation, classification and measurements out."""

from pathlib import Path

import streamlit as st

from bcd.app.frame import card, sentence
from bcd.app.images.downloads import Results, show_downloads
from bcd.app.images.image_view import show_comparison, show_image
from bcd.app.images.session import Session, SharedPredictor
from bcd.app.images.tables import choose_image, results_table
from bcd.app.images.uploads import FORMATS, FileContent, Upload, distinct_names, read_upload, within_limits
from bcd.app.images.wording import NOTICE, point_meaning
from bcd.app.settings import Settings
from bcd.images.scan import Scan, read_scans
from bcd.predictor.bundle import CARD, EXAMPLES, Bundle
from bcd.predictor.bundles.default import bundles_in
from bcd.predictor.bundles.examples import NAMES
from bcd.predictor.bundles.hashes import HASHES, BundleError, read_hashes, read_sealed
from bcd.predictor.options import PredictOptions
from bcd.predictor.predictor import Predictor
from bcd.reports.wording import point_name

_MOST_BOXES = 3


def show() -> None:
    """Show the page."""
    settings = Settings.from_environment()
    shared = _chosen_predictor(settings)
    bundle = shared.bundle
    session: Session = st.session_state.setdefault("session", Session())
    options, opacity, other = _options(shared, settings)
    st.header("Segment and classify breast ultrasound images")
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Model card and limits", key="card"):
            _show_card(bundle)
        note = settings.note if bundle.folder == settings.bundle else ""
        st.caption(sentence(f"Model: {bundle.name}. {note}".strip()))
    st.html('<p class="bcd-narrow">Operating point, sliders and a second model are behind the arrows at the top left.</p>')
    if bundle.synthetic:
        st.warning("This model learned from simulated images. Use it to try the page; its results mean nothing for a patient.")
    files = _files(session, settings, bundle)
    scans, problems = within_limits(files)
    _show_problems(problems)
    if scans:
        _show_results(session, shared, other, scans, options, opacity)
    elif not problems:
        st.info("Upload images above, or pick an example. They are read on the machine that serves this page, and not kept.")
    session.tidy([key for key, _ in files], [key for key, _ in scans])


@st.dialog("Model card and limits", width="large")
def _show_card(bundle: Bundle) -> None:
    st.warning(NOTICE)
    st.markdown("**Limits**\n\n" + "\n".join(f"- {sentence(text)}" for text in bundle.limits))
    st.markdown("**Intended use**\n\n" + "\n".join(f"- {sentence(text)}" for text in bundle.intended_use))
    facts = (
        ("name", bundle.name),
        ("fingerprint", bundle.fingerprint),
        ("made", bundle.created),
        ("task", bundle.task.replace("_", " ")),
        ("networks", str(len(bundle.networks))),
        ("training data", str(bundle.data.get("name", ""))),
        ("licences of the data", "; ".join(map(str, bundle.data.get("licences", ())))),
        ("licence of the weights", bundle.weights_licence),
    )
    st.markdown("**This bundle**\n\n" + "\n".join(f"- {name}: {sentence(value)}" for name, value in facts))
    st.markdown("---")
    if bundle.folder is not None:
        try:
            st.markdown(card(read_sealed(bundle.folder, CARD, read_hashes(bundle.folder)).decode("utf-8", errors="replace")))
        except BundleError as error:
            st.markdown(sentence(str(error)))


def _show_problems(problems: list[str]) -> None:
    """Show a box for each problem, or one box for all if there are many."""
    if len(problems) <= _MOST_BOXES:
        for problem in problems:
            st.error(sentence(problem))
    else:
        lines = "\n".join(f"- {sentence(problem)}" for problem in problems)
        st.error(f"**{len(problems)} problems**\n\n{lines}")


def _show_results(
    session: Session,
    shared: SharedPredictor,
    other: SharedPredictor | None,
    scans: list[tuple[str, Scan]],
    options: PredictOptions,
    opacity: float,
) -> None:
    bundle = shared.bundle
    names = distinct_names([scan for _, scan in scans])
    quick = PredictOptions(options.point, options.mask_threshold)
    results = []
    bar = st.progress(0.0, "Predicting") if len(scans) > 1 else None
    for number, (key, scan) in enumerate(scans, start=1):
        results.append(session.result(shared, key, scan, quick))
        if bar is not None:
            bar.progress(number / len(scans), f"{number} of {len(scans)} images")
    if bar is not None:
        bar.empty()
    by_hand = [key in session.masks for key, _ in scans]
    table = results_table(names, results, bundle, by_hand)
    place = choose_image(table, bundle.positive) if len(scans) > 1 else 0
    key, scan = scans[place]
    result = session.result(shared, key, scan, options)
    show_image(session, key, names[place], scan, result, shared, opacity)
    if other is not None:
        show_comparison(scan, result, session.result(other, key, scan, PredictOptions()), bundle, other.bundle, opacity)
    show_downloads(Results(names, [scan for _, scan in scans], results, by_hand, table), bundle, opacity)


def _files(session: Session, settings: Settings, bundle: Bundle) -> list[tuple[str, FileContent]]:
    """Return the uploaded files and the chosen examples, each with its key."""
    uploaded = st.file_uploader(
        f"Images: {FORMATS}",
        type=None,
        accept_multiple_files=True,
        key="uploads",
        help="Read in memory. Nothing is written to a disk, and nothing is sent anywhere else.",
    )
    examples = st.pills("Or simulated examples", NAMES, selection_mode="multi", key="examples")
    keys = []
    for file in uploaded:
        keys.append(file.file_id)
        if file.file_id not in session.files:
            session.files[file.file_id] = read_upload(Upload(file.file_id, file.name, file.getvalue()), settings.max_pixels)
    for name in examples:
        key = f"example/{bundle.fingerprint}/{name}"
        keys.append(key)
        if key not in session.files and bundle.folder is not None:
            session.files[key] = _example(bundle.folder, name, settings.max_pixels)
    return [(key, session.files[key]) for key in keys]


def _example(folder: Path, name: str, max_pixels: int) -> FileContent:
    try:
        content = read_sealed(folder, f"{EXAMPLES}/{name}.png", read_hashes(folder))
        return FileContent(tuple(read_scans(content, f"example_{name}.png", max_pixels)))
    except ValueError as error:
        return FileContent((), (str(error),))


def _options(shared: SharedPredictor, settings: Settings) -> tuple[PredictOptions, float, SharedPredictor | None]:
    """Return the options of the sidebar, the opacity of the overlay, and the bundle to compare with."""
    predictor, bundle = shared.predictor, shared.bundle
    point, threshold, heat_map = None, None, False
    with st.sidebar:
        if predictor.points:
            points = list(predictor.points)
            first = points.index(bundle.decisions.default_point) if bundle.decisions.default_point in points else 0
            point = st.selectbox("Operating point", points, first, format_func=point_name, key=f"point/{bundle.fingerprint}")
            st.caption(sentence(point_meaning(point, bundle)))
        opacity = st.slider("Overlay opacity", 0.0, 1.0, 0.5, 0.05, key="opacity", disabled=not predictor.outlines)
        if bundle.mask_threshold is not None:
            threshold = st.slider(
                "Mask threshold",
                0.02,
                0.98,
                float(bundle.mask_threshold),
                0.02,
                key=f"threshold/{bundle.fingerprint}",
                help="A pixel belongs to the mask from this probability on. A lower one makes larger masks.",
            )
            threshold = None if threshold == bundle.mask_threshold else threshold
        uncertainty = st.toggle("Uncertainty", key="uncertainty", help="Predicts the image several times; takes longer.")
        if predictor.classifies:
            heat_map = st.toggle("Heat map", key="heat_map", help="Shows what led to the predicted class; takes longer.")
        other = _other_predictor(shared, settings)
    return PredictOptions(point, threshold, uncertainty, heat_map), opacity, other


def _chosen_predictor(settings: Settings) -> SharedPredictor:
    """Return the predictor of the selected bundle; if it cannot be used, an error ends the run."""
    folders = bundles_in([settings.bundle, *settings.bundles])
    with st.sidebar:
        start = next((number for number, folder in enumerate(folders) if folder.resolve() == settings.bundle.resolve()), 0)
        if not folders:
            st.error(sentence(f"{settings.bundle} is missing. Start the page again with bundle= and an existing folder."))
            st.stop()
        folder = st.selectbox("Model", folders, start, format_func=lambda one: one.name, key="bundle", disabled=len(folders) == 1)
        shared = _load(folder, settings)
        if shared is None:
            st.stop()
    return shared


def _other_predictor(shared: SharedPredictor, settings: Settings) -> SharedPredictor | None:
    here = shared.bundle.folder
    folders = [one for one in bundles_in([settings.bundle, *settings.bundles]) if one.resolve() != (here or one).resolve()]
    folder = st.selectbox("Compare with", folders, index=None, placeholder="nothing", format_func=lambda one: one.name, key="other")
    if settings.local:
        path = st.text_input("or a bundle's folder", key="other_folder", placeholder="bundles/another").strip()
        folder = Path(path).expanduser() if path else folder
    return None if folder is None else _load(folder, settings)


def _load(folder: Path, settings: Settings) -> SharedPredictor | None:
    """Return a bundle's predictor; if it cannot be used, None, and an error on the page."""
    hashes = folder / HASHES
    try:
        # The time of its hashes: a bundle that was written again is loaded again.
        return _loaded(str(folder), hashes.stat().st_mtime if hashes.is_file() else 0.0, settings.trusted)
    except BundleError as error:
        st.error(sentence(str(error)))
    except (ValueError, OSError, RuntimeError) as error:
        st.error(sentence(f"{folder} cannot be used: {error}"))
    return None


@st.cache_resource(max_entries=3, show_spinner="Loading the model")
def _loaded(folder: str, sealed: float, trusted: tuple[str, ...]) -> SharedPredictor:
    return SharedPredictor(Predictor.load(Path(folder), trusted=trusted))
