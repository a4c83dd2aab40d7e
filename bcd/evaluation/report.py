"""report.html: one page that tells what a run gave and what made it."""

import html
import json
from pathlib import Path
from typing import Any

import pandas as pd

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } img { max-width: 100%; }
.warning { background: #b00000; color: white; padding: .8rem 1rem; font-weight: 600; border-radius: 4px; margin: .6rem 0; }
pre { background: #f4f4f4; padding: 1rem; overflow-x: auto; font-size: 13px; } small { color: #555; }
"""


def write_report(folder: Path, metrics: dict[str, Any]) -> None:
    """Write `<folder>/report.html`, which points to the pictures beside it.

    Args:
        folder: the run's folder, or the evaluation's.
        metrics: the content of metrics.json.
    """
    data, test = metrics["data"], metrics["test"]
    parts = [
        f"<h1>{html.escape(metrics['name'])}</h1>",
        *(f'<p class="warning">{html.escape(warning)}</p>' for warning in metrics["warnings"]),
        f"<p>Test fold {data['fold']} of {html.escape(data['name'])}: {test['n_cases']} images of {test['n_groups']} groups "
        f"(grouped by {html.escape(data['grouped_by'])}); trained on {data['n_cases']['train']}, validated on "
        f"{data['n_cases']['valid']}. Started from {html.escape(str(metrics['training'].get('initial_weights', 'unknown')))}.</p>",
        "<h2>Test figures</h2>",
        _table(test),
        f"<p><small>{html.escape(metrics['empty_mask_policy'])}</small></p>",
    ]
    if data["left_out"]:
        items = "".join(f"<li>{count} cases: {html.escape(reason)}</li>" for reason, count in data["left_out"].items())
        parts.append(f"<h2>Left out</h2><ul>{items}</ul>")
    if data["skipped"]:
        parts.append(f"<h2>Skipped, because of problems</h2><ul>{_skipped(data['skipped'])}</ul>")
    for title, picture in (("Best, median and worst cases", "overlays/panel.png"), ("Learning curves", "learning_curves.png")):
        if (folder / picture).is_file():
            parts.append(f'<h2>{title}</h2><img src="{picture}" alt="{title}">')
    made = {key: metrics[key] for key in ("training", "data", "guide", "seed", "checkpoint", "provenance")}
    made["data"] = {key: value for key, value in data.items() if key not in ("left_out_cases", "skipped")}
    parts.append(f"<h2>What made it</h2><pre>{html.escape(json.dumps(made, indent=2, ensure_ascii=False))}</pre>")
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(metrics["name"])}</title><style>{_STYLE}</style>'
    )
    (folder / "report.html").write_text(page + "\n".join(parts) + "</html>\n", encoding="utf-8")


def _skipped(problems: list[dict[str, str]]) -> str:
    """Return up to 100 problems as HTML list items; metrics.json has all."""
    told = [" ".join([problem["case_id"], Path(problem["file"]).name + ":", problem["reason"]]).strip() for problem in problems]
    more = [f"... and {len(told) - 100} more, see data.skipped in metrics.json"] if len(told) > 100 else []
    return "".join(f"<li>{html.escape(line)}</li>" for line in [*told[:100], *more])


def _table(test: dict[str, Any]) -> str:
    """Return every single number of the test figures as an HTML table."""
    flat = pd.json_normalize(test, sep=" · ").iloc[0].to_dict()
    rows = []
    for name, value in flat.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            shown = f"{value:.4f}" if isinstance(value, float) else str(value)
            rows.append(f'<tr><td>{html.escape(str(name).replace("_", " "))}</td><td class="number">{shown}</td></tr>')
    confusion = test.get("confusion")
    matrix = ""
    if confusion:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in confusion["classes"])
        body = "".join(
            f"<tr><th>{html.escape(name)}</th>{''.join(f'<td class=number>{count}</td>' for count in counts)}</tr>"
            for name, counts in zip(confusion["classes"], confusion["counts"], strict=True)
        )
        matrix = f"<table><tr><th>truth \\ prediction</th>{head}</tr>{body}</table>"
    return f"<table>{''.join(rows)}</table>{matrix}"
