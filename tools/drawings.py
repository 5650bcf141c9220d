"""Draw the figures of the docs: `python tools/drawings.py` writes docs/pictures/*.svg."""

from __future__ import annotations

import math
from pathlib import Path

from geoseg.atomic import write_durably

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
INK, SOFT, LINE, PAPER = "#1f2933", "#5b6770", "#b8c1c8", "#ffffff"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def main() -> None:
    """Write all drawings."""
    drawings = {
        "pipeline": pipeline(), "pixel": pixel(), "tiling": tiling(), "blending": blending(), "resume": resume(),
        "rooms": rooms(),
    }  # fmt: skip
    for name, drawing in drawings.items():
        write_durably(PICTURES / f"{name}.svg", drawing.encode())


def pipeline() -> str:
    """Draw what the commands read and write, from a scene to polygons, a page and figures."""
    wide, high, top = 160, 58, 60
    columns, middle = (24, 268, 512, 758), 128
    files = [
        (columns[0], top, BLUE, "scene.tif", "any size, any CRS"),
        (columns[0], middle + 68, ORANGE, "labeled scenes", "rasters or polygons"),
        (columns[1], middle + 68, ORANGE, "model.safetensors", "or the demo model"),
        (columns[2], middle, GREEN, "landcover.tif", "classes, a COG"),
        (columns[3], top - 24, GREEN, "landcover.gpkg", "polygons"),
        (columns[3], middle, GREEN, "map.html", "a page to share"),
        (columns[3], middle + 92, GREEN, "report/", "accuracy and areas"),
    ]
    parts = []
    for x, y, color, name, what in files:
        parts.append(rect(x, y, wide, high, fill=color, opacity=0.1, stroke=color))
        parts.append(text(x + wide / 2, y + 25, name, anchor="middle", bold=True))
        parts.append(text(x + wide / 2, y + 44, what, anchor="middle", fill=SOFT, size=12))
    left, right = columns[2] - 3, columns[3] - 3
    steps = [
        (columns[0] + wide, top + 29, left, middle + 20, "predict", 330, 86),
        (columns[0] + wide, middle + 97, columns[1] - 3, middle + 97, "train", 223, middle + 89),
        (columns[1] + wide, middle + 97, left, middle + 42, "", 0, 0),
        (columns[2] + wide, middle + 12, right, top + 12, "vectorize", 696, 84),
        (columns[2] + wide, middle + 29, right, middle + 29, "preview", 719, middle + 21),
        (columns[2] + wide, middle + 46, right, middle + 117, "evaluate", 690, middle + 100),
    ]
    for x, y, to_x, to_y, name, at_x, at_y in steps:
        parts.append(arrow(x, y, to_x, to_y))
        parts.append(text(at_x, at_y, name, anchor="middle", fill=INK, size=13, bold=True))
    return page(942, 292, parts, "geoseg predict maps a scene; vectorize, preview and evaluate work on the map.")


def rooms() -> str:
    """Draw the rooms of the library by floor; imports go down."""
    left, top, wide, high, gap = 150, 48, 750, 52, 14
    floors = [
        ("faces", [("geoseg_cli", "the command line")]),
        ("verbs on data sets", [("training", "a data set becomes a bundle")]),
        (
            "verbs on maps",
            [
                ("evaluation", "how good is it"),
                ("display", "pages and pictures"),
                ("inspection", "info, doctor"),
            ],
        ),
        ("scene to map", [("inference", "a scene and a model become a map")]),
        ("labels, polygons", [("vector", "classes become polygons"), ("dataset", "labeled scenes")]),
        (
            "sources",
            [
                ("features", "polygons and points of users"),
                ("model", "a network and its card"),
                ("synthetic", "landscapes with known truth"),
            ],
        ),
        ("pixels", [("raster", "pixels with a place on Earth")]),
        ("meaning", [("legend", "what the codes mean")]),
        ("ground", [("errors, given, atomic, machine, progress ...", "single files that know no room")]),
    ]
    parts = [text(left, top - 20, "each floor imports only from the floors below it, through a room's face", bold=True)]
    for number, (name, rows) in enumerate(floors):
        y = top + number * (high + gap)
        parts.append(text(left - 16, y + high / 2 + 5, name, anchor="end", fill=SOFT, size=12))
        each = (wide - gap * (len(rows) - 1)) / len(rows)
        for place, (room, what) in enumerate(rows):
            x = left + place * (each + gap)
            color = (BLUE, ORANGE, GREEN)[number // 3]
            parts.append(rect(x, y, each, high, fill=color, opacity=0.1, stroke=color))
            parts.append(text(x + each / 2, y + 22, room, anchor="middle", bold=True))
            parts.append(text(x + each / 2, y + 40, what, anchor="middle", fill=SOFT, size=12))
    return page(930, top + len(floors) * (high + gap) + 10, parts, "The rooms of geoseg, on their floors.")


def pixel() -> str:
    """Draw the path of a pixel from the scene's file to the map's."""
    stages = [
        ("Scene", "read", "rows of windows,", "each block once"),
        ("Patch", "footprint", "pixels and valid,", "(band, row, col)"),
        ("Engine", "score", "windows to", "probabilities"),
        ("Overlaps", "blend", "weighted sums,", "no division"),
        ("labeled", "label", "most probable class,", "nodata outside"),
        ("PartEncoder", "write", "blocks compressed,", "then the journal"),
        ("build_cog", "assemble", "one file, renamed", "when it is whole"),
    ]
    left, top, wide, high, gap = 24, 60, 106, 112, 23
    parts = [text(left, top - 24, "the way of a pixel", bold=True)]
    for number, (name, verb, first, second) in enumerate(stages):
        x = left + number * (wide + gap)
        color = BLUE if number < 2 else ORANGE if number < 5 else GREEN
        parts.append(rect(x, top, wide, high, fill=color, opacity=0.1, stroke=color))
        parts.append(text(x + wide / 2, top + 28, verb, anchor="middle", bold=True, size=15))
        parts.append(text(x + wide / 2, top + 50, name, anchor="middle", fill=color, size=12, bold=True))
        parts.append(text(x + wide / 2, top + 76, first, anchor="middle", fill=SOFT, size=10))
        parts.append(text(x + wide / 2, top + 92, second, anchor="middle", fill=SOFT, size=10))
        if number:
            parts.append(arrow(x - gap + 2, top + high / 2, x - 3, top + high / 2))
    end = left + 7 * wide + 6 * gap
    for start, stop, words in (
        (left, left + 6 * wide + 5 * gap, "down the scene in threads or on devices; tile by tile in Dask workers"),
        (left + 6 * (wide + gap), end, "once"),
    ):
        parts += span(start, stop, top + high + 20, words)
    return page(930, 230, parts, "A pixel is read, scored, blended, labeled, written and assembled.")


def tiling() -> str:
    """Draw a scene under its grid of windows, and the windows that one tile runs."""
    left, top, wide, high, window, step = 30, 50, 385, 250, 100, 75
    parts = [rect(left, top, wide, high, fill="#eef2f4", stroke=INK)]
    cols, rows = starts(wide, window, step), starts(high, window, step)
    parts += [
        rect(left + col, top + row, window, window, fill=BLUE, opacity=0.07, stroke=BLUE)
        for row in rows
        for col in cols
    ]
    parts.append(rect(left + cols[0], top + rows[0], window, window, fill=BLUE, opacity=0.25, stroke=BLUE, width=2.5))
    parts += [
        text(left, top - 14, "the scene, under its windows", bold=True),
        text(left + 8, top + 22, "a window", fill=BLUE, bold=True),
        text(left + cols[-1] - 3, top + high + 22, "shifted inward", fill=SOFT, anchor="start", size=12),
        arrow(left + cols[-1] + 90, top + high + 18, left + cols[-1] + 90, top + high + 3),
    ]
    parts += span(left + step, left + window, top + high + 12, "overlap")
    right = left + wide + 70
    parts += [rect(right, top, wide, high, fill="#eef2f4", stroke=INK)]
    tile = (200, 125)
    touching = [
        (col, row) for row in rows for col in cols if col < tile[0] and row + window > tile[1]
    ]  # of the lower left of four tiles
    parts += [
        rect(right + col, top + row, window, window, fill=ORANGE, opacity=0.07, stroke=ORANGE) for col, row in touching
    ]
    parts += [
        path(f"M{right + tile[0]} {top}V{top + high}M{right} {top + tile[1]}H{right + wide}", stroke=INK, dash="5 4"),
        rect(right, top + tile[1], *tile, fill=ORANGE, opacity=0.22, stroke=ORANGE, width=2.5),
        text(right, top - 14, "four tiles, and the windows that one of them runs", bold=True),
        text(right + 8, top + high - 10, "kept: what lies inside", fill=ORANGE, bold=True, size=12),
    ]
    return page(930, 340, parts, "Windows overlap on a grid of the scene; a tile runs every window that touches it.")


def blending() -> str:
    """Draw the weights of each window along a row of pixels, and their sum, which is one."""
    left, top, high, scale = 60, 56, 150, 1.25
    window, width = 160, 640
    begins = starts(width, window, 120)
    hann = [math.sin(math.pi * (x + 0.5) / window) ** 2 for x in range(window)]
    sums = [sum(hann[x - begin] for begin in begins if begin <= x < begin + window) for x in range(width)]
    parts = [
        text(left, top - 26, "weight of each window along a row of pixels", bold=True),
        path(f"M{left} {top}H{left + width * scale}", stroke=INK, dash="5 4"),
        text(left - 10, top + 4, "1", anchor="end", fill=SOFT, size=12),
        text(left - 10, top + high + 4, "0", anchor="end", fill=SOFT, size=12),
        text(left + width * scale, top - 8, "the sum of all weights is 1 everywhere", anchor="end", fill=SOFT, size=12),
    ]
    for number, begin in enumerate(begins):
        color = (BLUE, ORANGE, GREEN)[number % 3]
        places = [
            (left + (begin + x + 0.5) * scale, top + high * (1 - hann[x] / sums[begin + x])) for x in range(window)
        ]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        start, end = left + begin * scale, left + (begin + window) * scale
        parts += [
            path(f"M{start:.1f} {top + high}L{line}L{end:.1f} {top + high}Z", fill=color, opacity=0.16),
            path(f"M{line}", stroke=color, width=2),
        ]
        level = top + high + 16 + 12 * (number % 2)
        parts.append(path(f"M{start + 1:.1f} {level}H{end - 1:.1f}", stroke=color, width=5))
    parts += [
        path(f"M{left} {top + high}H{left + width * scale}", stroke=INK),
        text(
            left,
            top + high + 56,
            "the windows; at the edge of the scene one window has all the weight",
            fill=SOFT,
            size=12,
        ),
    ]
    return page(930, 290, parts, "Each window's weight falls towards its edge; the weights of all windows sum to one.")


def resume() -> str:
    """Draw the steps from tiles to parts and journal to the map, with a crash in between."""
    parts = []
    columns = ((30, "1  tiles are mapped"), (345, "2  each is stored at once"), (660, "3  the map gets its name"))
    parts += [text(x, 36, title, bold=True) for x, title in columns]
    for number in range(12):
        col, row = number % 4, number // 4
        done, broken = number < 7, number == 7
        fill = GREEN if done else ORANGE if broken else "#eef2f4"
        parts.append(rect(30 + col * 55, 60 + row * 55, 52, 52, fill=fill, opacity=0.35 if done or broken else 1))
        if done:
            parts.append(tick(30 + col * 55 + 26, 60 + row * 55 + 26))
    parts += [
        text(30 + 3 * 55 + 26, 60 + 55 + 31, "✕", anchor="middle", fill=ORANGE, bold=True, size=17),
        text(30, 250, "a power cut: the current tile is lost,", fill=SOFT, size=12),
        text(30, 266, "the seven before it are not", fill=SOFT, size=12),
        arrow(262, 140, 330, 140),
        rect(345, 60, 240, 162, fill="#f6f8fa", stroke=LINE),
        text(360, 84, "landcover.tif.parts/", size=13, bold=True),
    ]
    for line, words in enumerate(("a part for each tile,", "synced, then renamed")):
        parts.append(text(360, 108 + line * 17, words, size=12, fill=SOFT))
    parts += [
        text(360, 154, "journal.jsonl", size=13, bold=True),
        text(360, 176, "the settings, then one line", size=12, fill=SOFT),
        text(360, 193, "for each finished tile", size=12, fill=SOFT),
        text(345, 250, "the same command reads the journal", fill=SOFT, size=12),
        text(345, 266, "and maps the missing tiles", fill=SOFT, size=12),
        arrow(592, 140, 646, 140),
        rect(660, 60, 240, 162, fill=GREEN, opacity=0.14, stroke=GREEN),
        text(780, 132, "landcover.tif", anchor="middle", bold=True, size=17),
        text(780, 156, "assembled beside its place,", anchor="middle", size=12, fill=SOFT),
        text(780, 173, "renamed in one step", anchor="middle", size=12, fill=SOFT),
        text(660, 250, "the final name has the old map", fill=SOFT, size=12),
        text(660, 266, "or the new one, never half of one", fill=SOFT, size=12),
    ]
    return page(930, 290, parts, "Finished tiles become files and lines of a journal; then the map gets its name.")


def starts(length: int, window: int, step: int) -> list[int]:
    """Return where windows begin; the last is shifted inward, as in geoseg.raster.windows."""
    begins = list(range(0, length - window + 1, step))
    return begins if begins[-1] + window == length else [*begins, length - window]


def page(width: int, height: int, parts: list[str], title: str) -> str:
    """Return the complete SVG file."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="{FONT}">\n'
        f"<title>{title}</title>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def rect(  # noqa: PLR0913 - a drawing has many sides
    x: float,
    y: float,
    width_px: float,
    height_px: float,
    *,
    fill: str,
    opacity: float = 1,
    stroke: str = LINE,
    width: float = 1,
) -> str:
    """Return a rectangle; the opacity applies to its fill."""
    return (
        f'<rect x="{x}" y="{y}" width="{width_px}" height="{height_px}" fill="{fill}" fill-opacity="{opacity}" '
        f'stroke="{stroke}" stroke-width="{width}"/>'
    )


def path(  # noqa: PLR0913
    course: str, *, stroke: str = "none", fill: str = "none", opacity: float = 1, width: float = 1, dash: str = "none"
) -> str:
    """Return a line or an area."""
    return (
        f'<path d="{course}" fill="{fill}" fill-opacity="{opacity}" stroke="{stroke}" stroke-width="{width}" '
        f'stroke-dasharray="{dash}"/>'
    )


def text(  # noqa: PLR0913
    x: float, y: float, words: str, *, fill: str = INK, anchor: str = "start", size: int = 14, bold: bool = False
) -> str:
    """Return a line of text."""
    weight = 600 if bold else 400
    look = f'fill="{fill}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" {look}>{words}</text>'


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return an arrow between two points."""
    turn = math.degrees(math.atan2(to_y - y, to_x - x))
    head = f'<path d="M0 0L-9 -4.5V4.5Z" fill="{SOFT}" transform="translate({to_x} {to_y}) rotate({turn:.0f})"/>'
    return path(f"M{x} {y}L{to_x} {to_y}", stroke=SOFT, width=1.5) + head


def tick(x: float, y: float) -> str:
    """Return a tick mark centered on a point."""
    return path(f"M{x - 8} {y}l6 6l11 -13", stroke=GREEN, width=2.5)


def span(start: float, end: float, y: float, words: str) -> list[str]:
    """Return a dimension line between two columns, labeled below."""
    return [
        path(f"M{start} {y - 5}V{y + 5}M{end} {y - 5}V{y + 5}M{start} {y}H{end}", stroke=SOFT, width=1.5),
        text((start + end) / 2, y + 18, words, anchor="middle", fill=SOFT, size=12),
    ]


if __name__ == "__main__":
    main()
