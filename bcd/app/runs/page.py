"""The page that shows runs: leaderboard, figures, curves, report, cases, pictures, model card."""

from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path

import pandas as pd
import streamlit as st

from bcd.app.frame import card, sentence
from bcd.app.runs.folders import FIGURES, RunFolder, folders_below, read_folder
from bcd.runs import folder as files

_MOST_BYTES = 32 << 20
_MOST_PICTURES = 24
_STUDY = "study.html"
_HISTORY = "history.csv"
_HISTORY_OF_FOLD = f"fold_*/{_HISTORY}"
# A report may come from anywhere: it is shown, but may run nothing and fetch nothing.
_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "font-src data:; form-action 'none'; base-uri 'none'\">"
)


def show(outputs: Path, tensorboard: str = "") -> None:
    """Show the page of the runs below a folder, with a link to a TensorBoard that shows the same, if there is one."""
    st.header("Runs")
    if tensorboard:
        st.markdown(f"The curves of several runs in one picture: [TensorBoard]({tensorboard}).")
    folders = [read_folder(path, outputs) for path in folders_below(outputs)]
    runs = [one for one in folders if isinstance(one, RunFolder)]
    if not runs:
        st.info(sentence(f"There are no finished runs below {outputs}. Train one: python scripts/train.py, or make train."))
    else:
        _show_run(_choose(_narrowed(runs)))
    _studies(outputs)
    problems = [one for one in folders if isinstance(one, str)]
    if problems:
        with st.expander(f"Folders that are not shown, and why: {len(problems)}"):
            for problem in problems:
                st.markdown(f"- {sentence(problem)}")


def _studies(outputs: Path) -> None:
    """Show the page of a study or a pipeline, which sets several runs side by side, where there are such."""
    studies = [path for path in folders_below(outputs) if (path / _STUDY).is_file()]
    if not studies:
        return
    st.subheader("Studies and pipelines")
    chosen = st.selectbox(
        "Several runs side by side",
        studies,
        index=None,
        placeholder="choose one to see its page",
        format_func=lambda path: path.relative_to(outputs).as_posix(),
        key="study",
    )
    if chosen is not None:
        try:
            _html_page(chosen / _STUDY, f"{chosen.name}_{_STUDY}", "Save this page (HTML)")
        except (OSError, ValueError) as error:
            st.error(sentence(f"This cannot be shown: {error}"))


def _narrowed(runs: list[RunFolder]) -> list[RunFolder]:
    """Return the selected runs; at least one."""
    with st.container(horizontal=True):
        tasks = st.multiselect("Task", sorted({run.row["task"] for run in runs}), key="tasks", placeholder="all tasks")
        data = st.multiselect("Data", sorted({run.row["data"] for run in runs}), key="data", placeholder="all data")
        all_groups = sorted({run.row["group"] for run in runs if run.row["group"]})
        groups = st.multiselect("Group", all_groups, key="groups", placeholder="all groups") if all_groups else []
    has_folds = any(run.is_fold for run in runs) and any(not run.is_fold for run in runs)
    folds = st.toggle("Single folds too", key="folds") if has_folds else True
    kept = [
        run
        for run in runs
        if (not tasks or run.row["task"] in tasks)
        and (not data or run.row["data"] in data)
        and (not groups or run.row["group"] in groups)
        and (folds or not run.is_fold)
    ]
    if not kept:
        st.info("No run is of that kind; all are shown.")
    return kept or runs


def _choose(runs: list[RunFolder]) -> RunFolder:
    """Show the leaderboard; return the run whose row is selected, the first if none is."""
    table = pd.DataFrame([run.row for run in runs])
    table = table.drop(columns=[name for name in table if table[name].isna().all() or table[name].isin(["", "\N{EN DASH}"]).all()])
    picked = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="leaderboard",
        column_config={title: st.column_config.NumberColumn(format="%.4f") for title in FIGURES.values()},
        alt="The leaderboard, one row per run",
    )
    st.caption("Click on a column's name to sort, at the left of a row to see that run. Figures of different cases do not compare.")
    rows = [row for row in picked["selection"]["rows"] if row < len(runs)]
    return runs[rows[0] if rows else 0]


def _show_run(run: RunFolder) -> None:
    st.subheader(sentence(run.name))
    for warning in run.warnings:
        st.warning(sentence(warning))
    views = {title: show for title, (names, show) in _VIEWS.items() if any(any(run.path.glob(name)) for name in names)}
    if not views:
        st.info("The folder holds figures alone: no report, no cases, no curves.")
        return
    view = st.segmented_control(
        "What", list(views), default=next(iter(views)), required=True, key="what", label_visibility="collapsed", wrap=True
    )
    try:
        views[view if view in views else next(iter(views))](run.path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        st.error(sentence(f"This cannot be shown: {error}"))


def _pictures(path: Path) -> None:
    pictures = sorted((path / "overlays").glob("*.png"))
    whole = [picture for picture in pictures if picture.stem == "panel"]
    for picture in whole:
        st.image(_checked(picture).read_bytes(), width="stretch", alt="Best, median and worst test cases")
    kinds = sorted({one.stem.rpartition("_")[0] for one in pictures if one not in whole})
    if not kinds:
        return
    st.caption("Blue is the true contour, orange the predicted one.")
    shown = {kind: kind.replace("_", " ") or "others" for kind in kinds}
    kind = st.segmented_control(
        "Cases", kinds, default=kinds[0], required=True, key="kind", format_func=shown.__getitem__, wrap=True
    )
    chosen = [one for one in pictures if one not in whole and one.stem.rpartition("_")[0] == kind][:_MOST_PICTURES]
    for column, picture in zip(cycle(st.columns(4)), chosen, strict=False):
        column.image(_checked(picture).read_bytes(), picture.stem.replace("_", " "), width="stretch")


def _cases(path: Path) -> None:
    cases = pd.read_csv(_checked(path / files.CASES))
    column = st.selectbox("Sort by", list(cases.columns), key="sort")
    rising = st.toggle("Lowest first", value=True, key="rising")
    shown = cases.sort_values(column, ascending=rising, kind="stable") if column in cases else cases
    st.dataframe(shown, hide_index=True, height=520, alt="One row per test case")


def _curves(path: Path) -> None:
    own = path / _HISTORY
    paths = [own] if own.exists() else sorted(path.glob(_HISTORY_OF_FOLD))
    histories = {one.parent.name: _history(one) for one in paths}
    columns = {str(column) for history in histories.values() for column in history}
    names = {column.partition("/")[2] for column in columns if column.startswith(("train/", "val/"))}
    if path.name not in histories:
        st.caption("Of each fold, on its validation images.")
    for place, name in zip(cycle(st.columns(2)), sorted(names, key=lambda name: (name != "loss", name)), strict=False):
        place.markdown(f"**{sentence(name.replace('_', ' '))}**")
        place.line_chart(_curve(histories, name, path), height=240)


def _history(path: Path) -> pd.DataFrame:
    history = pd.read_csv(_checked(path))
    if "epoch" not in history:
        raise ValueError(f"{_HISTORY} has no column epoch.")
    return history.drop_duplicates("epoch", keep="last").set_index("epoch").rename(index=lambda epoch: epoch + 1)


def _curve(histories: Mapping[str, pd.DataFrame], name: str, path: Path) -> pd.DataFrame:
    """Return a measure by epoch: in training and validation of one run, or in the validation of each fold."""
    if path.name in histories:
        lines = {part: histories[path.name].get(f"{part}/{name}") for part in ("train", "val")}
    else:
        lines = {fold.replace("_", " "): history.get(f"val/{name}") for fold, history in histories.items()}
    return pd.DataFrame({title: pd.to_numeric(line, errors="coerce") for title, line in lines.items() if line is not None})


def _report(path: Path) -> None:
    _html_page(path / files.REPORT, f"{path.name}_report.html", "Save the report (HTML)")


def _html_page(path: Path, name: str, title: str) -> None:
    page = _checked(path).read_text(encoding="utf-8", errors="replace")
    st.download_button(title, page.encode(), name, "text/html", on_click="ignore", key=f"save/{path}")
    st.iframe(f"{_POLICY}{page}", height=900)


def _card(path: Path) -> None:
    st.markdown(card(_checked(path / "model_card.md").read_text(encoding="utf-8", errors="replace")))


def _checked(path: Path) -> Path:
    """Return a path if it is a file of a size that a page can show.

    Raises:
        ValueError: when it is not.
    """
    if not path.is_file() or path.is_symlink():
        raise ValueError(f"{path.name} is no file.")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.name} is larger than {_MOST_BYTES >> 20} MB; open it yourself: {path}")
    return path


_VIEWS: dict[str, tuple[tuple[str, ...], Callable[[Path], None]]] = {
    "Truth against prediction": (("overlays",), _pictures),
    "Curves": ((_HISTORY, _HISTORY_OF_FOLD), _curves),
    "Cases": ((files.CASES,), _cases),
    "Report": ((files.REPORT,), _report),
    "Model card": (("model_card.md",), _card),
}
