"""Make the docs' picture of a `geoseg preview` page with a headless browser.

python tools/page_picture.py              # docs/pictures/page.webp with the model that is shipped now
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

import geoseg
from geoseg.atomic import write_durably

ROOT = Path(__file__).parents[1]
LARGEST_BYTES = 400_000
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_WIDTH_PX, _HEIGHT_PX = 1280, 800
_PATIENCE_MS = 5000


def main() -> None:
    """Map the sample scene, make the page, take a screenshot, and write it if it is small enough."""
    wanted = _arguments()
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"no browser found, looked for {', '.join(_BROWSERS)}; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_page(wanted.scene, folder)
        content = _as_webp(_photograph(browser, folder / "map.html"))
    if len(content) > LARGEST_BYTES:
        raise SystemExit(f"the picture has {len(content)} bytes, {LARGEST_BYTES} at most")
    write_durably(wanted.out, content)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", type=Path, default=ROOT / "sample_data" / "scene.tif")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures" / "page.webp")
    return parser.parse_args()


def _make_page(scene: Path, folder: Path) -> None:
    landcover, polygons = folder / "landcover.tif", folder / "landcover.gpkg"
    geoseg.predict(scene, landcover)
    geoseg.vectorize(landcover, polygons, min_area=25, simplify=1)
    page = geoseg.preview(landcover, scene, polygons=polygons, title="Land cover of the sample scene")
    page.save(folder / "map.html")


def _photograph(browser: str, page: Path) -> Image.Image:
    picture = page.with_suffix(".png")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={picture}"]
    words += [f"--window-size={_WIDTH_PX},{_HEIGHT_PX}", f"--virtual-time-budget={_PATIENCE_MS}"]
    subprocess.run([browser, *words, page.as_uri()], check=True, capture_output=True, timeout=120)
    return Image.open(picture).convert("RGB")


def _as_webp(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=82, method=6)
    return content.getvalue()


if __name__ == "__main__":
    main()
