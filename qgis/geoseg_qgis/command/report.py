"""Pages for QGIS's results viewer, made from the command's output."""

from __future__ import annotations

from html import escape
from typing import Any, Mapping, Sequence

from geoseg_qgis.translation import tr

_STYLE = (
    "body{font-family:sans-serif;margin:2em;max-width:60em}table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:right}th:first-child,td:first-child"
    "{text-align:left}pre{white-space:pre-wrap;font-size:1.05em}.note{color:#555}"
)


def accuracy_page(figures: Mapping[str, Any], warnings: Sequence[str] = (), notes: Sequence[str] = ()) -> str:
    """Return the page for the output of `geoseg evaluate --json`, with `notes` in the dialog's terms."""
    rows = [(tr("Overall accuracy"), _percent(figures.get("overall_accuracy")))]
    rows.append((tr("Mean IoU"), _percent(figures.get("miou_without_unknown"))))
    rows.append((tr("Kappa"), _decimal(figures.get("kappa"))))
    is_points = figures.get("counted") == "points"
    unit = tr("points") if is_points else tr("pixels")
    calibration = figures.get("calibration") or {}
    if calibration:
        rows.append((tr("Expected calibration error"), _decimal(calibration.get("expected_calibration_error"))))
    rows.append((tr("Compared"), f"{_grouped(figures.get('pixels'))} {unit}"))
    left_out = sum((figures.get("left_out") or {}).values())
    rows.append((tr("Left out"), f"{_grouped(left_out)} {unit}"))
    parts = [
        _heading(tr("Accuracy of {map}").format(map=_name(figures.get("map")))),
        f"<p class=note>{escape(tr('against {reference}').format(reference=_name(figures.get('reference'))))}</p>",
        _table((), rows),
        *(f"<p><b>{escape(warning)}</b></p>" for warning in warnings),
        _classes(figures.get("classes") or ()),
        _areas(figures.get("areas") or {}),
        _confusion(figures.get("confusion") or {}),
        _notes([note for note in notes if note not in warnings]),
    ]
    return _page(tr("Accuracy"), parts)


def text_page(title: str, text: str) -> str:
    """Return a page with a preformatted text."""
    return _page(title, [_heading(title), f"<pre>{escape(text)}</pre>"])


def _page(title: str, parts: Sequence[str]) -> str:
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html><html><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _classes(classes: Sequence[Mapping[str, Any]]) -> str:
    shown = [each for each in classes if each.get("iou") is not None or each.get("f1") is not None]
    if not shown:
        return ""
    heads = (tr("Class"), tr("IoU"), tr("User's accuracy"), tr("Producer's accuracy"), "F1")
    keys = ("iou", "precision", "recall", "f1")
    rows = [(str(each.get("name")), *(_percent(each.get(key)) for key in keys)) for each in shown]
    return f"<h2>{escape(tr('Classes'))}</h2>{_table(heads, rows)}"


def _areas(areas: Mapping[str, Any]) -> str:
    if not areas.get("classes"):
        return ""
    unit = str(areas.get("unit", "")).replace("m2", "m²")
    heads = (tr("Class"), tr("Mapped"), tr("Area"), tr("95 % interval"))
    rows = [
        (
            str(each.get("name")),
            _grouped(each.get("mapped")),
            _grouped(each.get("area")),
            f"{_grouped(each.get('area_low_95'))} - {_grouped(each.get('area_high_95'))}",
        )
        for each in areas["classes"]
    ]
    return f"<h2>{escape(tr('Areas'))} ({escape(unit)})</h2>{_table(heads, rows)}"


def _confusion(confusion: Mapping[str, Any]) -> str:
    names, counts = confusion.get("names") or (), confusion.get("counts") or ()
    if not names:
        return ""
    rows = [(str(name), *(_grouped(count) for count in row)) for name, row in zip(names, counts)]
    note = tr("Rows are the reference, columns the map.")
    title = escape(tr("Confusion matrix"))
    return f"<h2>{title}</h2><p class=note>{escape(note)}</p>{_table(('', *map(str, names)), rows)}"


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return f"<h2>{escape(tr('Notes'))}</h2><ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def _heading(text: str) -> str:
    return f"<h1>{escape(text)}</h1>"


def _name(path: object) -> str:
    text = str(path or "?")
    return text if text.startswith("“") else text.replace("\\", "/").rsplit("/", 1)[-1]


def _percent(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, (int, float)) else "-"


def _decimal(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "-"


def _grouped(value: object) -> str:
    return f"{value:,.0f}".replace(",", " ") if isinstance(value, (int, float)) else "-"
