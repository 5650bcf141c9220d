"""The plugin's logic: command lines, the environment of the child process, progress, cancellation."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from geoseg_qgis.command import installation
from geoseg_qgis.command import program as programs
from geoseg_qgis.command.arguments import as_typed, box, command_line, split_extra, value_of
from geoseg_qgis.command.child import answer, ask, environment, run
from geoseg_qgis.command.listener import Listener, plain
from geoseg_qgis.command.report import accuracy_page, text_page

from geoseg.evaluation import Calibration, ConfusionMatrix, Evaluation, LeftOut

Program = Callable[..., str]


class Dialog:
    """Records the messages sent to QGIS's feedback."""

    def __init__(self) -> None:
        self.percents: list[float] = []
        self.lines: list[tuple[str, str]] = []

    def setProgress(self, percent: float) -> None:  # noqa: N802 - QGIS's names
        self.percents.append(percent)

    def setProgressText(self, text: str) -> None:  # noqa: N802
        self.lines.append(("stage", text))

    def pushInfo(self, text: str) -> None:  # noqa: N802
        self.lines.append(("info", text))

    def pushWarning(self, text: str) -> None:  # noqa: N802
        self.lines.append(("warning", text))

    def pushDebugInfo(self, text: str) -> None:  # noqa: N802
        self.lines.append(("debug", text))


def test_a_command_line_leaves_out_what_is_not_given() -> None:
    options = {"--out": "a b.tif", "--bbox": [-1.5, 2.0, 1e-7, 4.0], "--smooth": True, "--tta": None, "--model": ""}
    assert command_line("geoseg", "predict", ["-s.tif"], options | {"--mkdir": False}, "--tile 512") == [
        "geoseg", "predict", "--out=a b.tif", "--bbox=-1.5,2,1e-07,4", "--smooth", "--tile", "512", "--", "-s.tif",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [400000.1234567891, 1e-300, -0.1, 179.99999999999997, 1e22, 5e15])
def test_numbers_of_a_command_line_are_exact(value: float) -> None:
    assert float(command_line("g", "v", [], {"--x": value})[2].partition("=")[2]) == value


def test_extra_options_of_windows_keep_their_backslashes() -> None:
    assert split_extra(r'--legend="C:\My maps\x.csv" --tile 5', windows=True) == [
        r"--legend=C:\My maps\x.csv", "--tile", "5",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="quotation"):
        split_extra('"open', windows=False)


def test_an_empty_extent_is_none() -> None:
    assert box(0, 0, 0, 0) is None
    assert box(1, 5, 2, 7) == [1, 5, 2, 7]


def test_the_child_has_nothing_of_qgis_in_its_environment(tmp_path: Path) -> None:
    given = {"PROJ_LIB": "x", "PYTHONHOME": "x", "Pythonpath": "x", "QT_PLUGIN_PATH": "x", "DYLD_LIBRARY_PATH": "x"}
    kept = environment(str(tmp_path / "geoseg"), given | {"HOME": "h", "GEOSEG_MODEL": "m", "http_proxy": "p"})
    assert kept == {
        "HOME": "h", "GEOSEG_MODEL": "m", "http_proxy": "p",
        "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8", "GEOSEG_END_WITH_STDIN": "1",
    }  # fmt: skip


def test_an_environment_of_conda_on_windows_finds_its_libraries(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    path = environment(str(tmp_path / "Scripts" / "geoseg.exe"), {"PATH": "before"})["PATH"].split(os.pathsep)
    assert path == [str(tmp_path), str(tmp_path / "Library" / "bin"), str(tmp_path / "Scripts"), "before"]


ECHOES = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "lost": os.environ.get("PROJ_LIB")}))
for number in range(3):
    print(f"Zeile ü {number}", file=sys.stderr, flush=True)
sys.exit(3)
"""


def test_a_run_gives_lines_result_and_code(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJ_LIB", "/usr/share/proj")
    heard: list[str] = []
    done = run([program(ECHOES), "Größe & Fläche", "a b"], heard.append, lambda: False)
    assert (done.code, done.is_canceled) == (3, False)
    assert json.loads(done.stdout) == {"argv": ["Größe & Fläche", "a b"], "lost": None}
    assert heard == [f"Zeile ü {number}" for number in range(3)]


def test_much_output_on_both_pipes_blocks_nothing() -> None:
    body = "import sys\nfor n in range(20000): print('x' * 40); print('y' * 40, file=sys.stderr)"
    heard: list[str] = []
    done = run([sys.executable, "-c", body], heard.append, lambda: False)
    assert (done.code, len(heard), len(done.stdout.splitlines())) == (0, 20000, 20000)


POLITE = """
import os, sys
print("begun", file=sys.stderr, flush=True)
sys.stdin.read()
print("kept 3 of 4 tiles", file=sys.stderr, flush=True)
sys.exit(1)
"""
STUBBORN = "import sys, time\nprint('begun', file=sys.stderr, flush=True)\ntime.sleep(100)"


def test_cancel_closes_stdin_and_hears_the_last_words(program: Program) -> None:
    heard: list[str] = []
    done = run([program(POLITE)], heard.append, lambda: bool(heard))
    assert (done.code, done.is_canceled, heard) == (1, True, ["begun", "kept 3 of 4 tiles"])


def test_what_does_not_end_is_killed(program: Program) -> None:
    heard: list[str] = []
    start = time.monotonic()
    done = run([program(STUBBORN)], heard.append, lambda: bool(heard), patience_s=0.3)
    assert done.is_canceled
    assert done.code != 0
    assert time.monotonic() - start < 30


def test_a_failing_listener_leaves_no_process(program: Program) -> None:
    def fail(line: str) -> None:
        raise RuntimeError(line)

    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="begun"):
        run([program(STUBBORN)], fail, lambda: False, patience_s=0.3)
    assert not [each for each in set(threading.enumerate()) - before if each.name.startswith("geoseg")]


def test_a_program_that_is_none_says_why(tmp_path: Path, program: Program) -> None:
    assert "No such file" in ask([str(tmp_path / "none")], 5).last_error
    moved = Path(program(""))
    moved.write_text("#!/no/environment/bin/python\n", encoding="utf-8")
    assert "the Python of its environment is gone" in ask([str(moved)], 5).last_error


@pytest.mark.parametrize(
    "printed",
    [
        *("{}", "[activated]\n{}", "{{x}}\n{}\nbye", "a {{}}\n{}\n[1] done", "[1] 12345\n{}", "[0] done\n{}"),
        *("{{}}\n{}", '{{"a": 1}} log\n{}', "[[1],\n[2]]\n{}\r\n", "[" * 100_000 + "\n{}"),
    ],
)
@pytest.mark.parametrize("told", [{"usable": True}, [{"code": 1}]])
def test_an_environment_that_prints_does_not_hide_the_answer(printed: str, told: object) -> None:
    assert answer(printed.format(json.dumps(told, indent=2))) == told


@pytest.mark.parametrize("printed", ["", "no answer", "[1] done", "{x}", "[1"])
def test_lines_of_an_environment_are_no_answer(printed: str) -> None:
    assert answer(printed) is None


def told(stage: str, done: int, **more: object) -> str:
    return json.dumps({"stage": stage, "done": done, "total": 10, "unit": "px"} | more)


def test_one_bar_for_all_stages_never_goes_back() -> None:
    dialog = Dialog()
    listener = Listener(dialog, (("map", 80), ("assemble", 15), ("polygons", 5)), {})
    for stage, done in (("map", 0), ("map", 5), ("map", 10), ("assemble", 0), ("assemble", 10), ("map", 3)):
        listener.hear(told(stage, done))
    listener.hear(told("unheard of", 5))
    listener.hear(told("polygons", 10, total=0))
    listener.hear(told("polygons", 10))
    assert dialog.percents == sorted(dialog.percents)
    assert dialog.percents[:3] == [0, 40, 80]
    assert dialog.percents[-1] == pytest.approx(100)


def test_lines_go_where_they_belong() -> None:
    dialog = Dialog()
    listener = Listener(dialog, (), {"--scale": "Values of black and white"})
    for line in (
        '{"message": "reading bands"}',
        '{"warning": "give --scale"}',
        "ERROR 1: of GDAL",
        "[1, 2]",
        '{"error": "Invalid value for \'--scale\': got foo; see geoseg predict --help"}',
    ):
        listener.hear(line)
    assert dialog.lines == [
        ("info", "reading bands"),
        ("warning", "give “Values of black and white”"),
        ("debug", "ERROR 1: of GDAL"),
        ("debug", "[1, 2]"),
    ]
    assert listener.error == "Invalid value for “Values of black and white”: got foo"


def test_errors_without_json_are_errors_and_layers_have_their_names() -> None:
    dialog = Dialog()
    listener = Listener(dialog, (), {}, {"/exported/AOI.gpkg": "Parcels"})
    for line in (
        "geoseg: warning: slow",
        "geoseg: error: no such option '--x'; see geoseg info --help",
        "geoseg: hello",
        "MemoryError",
        "",
    ):
        listener.hear(line)
    assert listener.error == "no such option '--x'"
    assert (listener.warnings, listener.last_line) == (["slow"], "MemoryError")
    listener.hear('{"error": "/exported/AOI.gpkg holds no polygon"}')
    assert listener.error == "“Parcels” holds no polygon"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("give --gsd 2", "give “Pixel size” 2"),
        ("work with --gsd model", "work with --gsd model (options go into “More”)"),
        ("--data-gsd states another, --gsd 1", "--data-gsd states another, “Pixel size” 1 (options go into “More”)"),
        ("no CRS; assign it (rio edit-info --crs --gsd)", "no CRS; assign it (rio edit-info --crs --gsd)"),
        ("warp it (rio warp --gsd 2), or give --gsd 2", "warp it (rio warp --gsd 2), or give “Pixel size” 2"),
        ("use rio clip --bounds or --gsd 2", "use rio clip --bounds or “Pixel size” 2"),
        ("pip install --force-reinstall geoseg: then --tile", "{} (options go into “More”)"),
        ("rio calc '(absolute (read 1))' --dtype float32 --not-masked", "{}"),
        ("gdal_translate -b 1 --config X Y, or ogr2ogr --gsd a b", "{}"),
    ],
)
def test_an_option_without_a_field_says_where_it_goes(line: str, shown: str) -> None:
    assert plain(line, {"--gsd": "Pixel size", "--": "More"}) == shown.format(line)
    assert "More" not in plain(line, {})


@pytest.mark.parametrize("windows", [False, True])
def test_the_command_in_the_log_can_be_typed(*, windows: bool) -> None:
    words = ["geoseg", "a b.tif", 'c"d.tif']
    typed = as_typed(words, windows=windows)
    assert typed == ("""geoseg "a b.tif" c\\"d.tif""" if windows else """geoseg 'a b.tif' 'c"d.tif'""")


@pytest.mark.parametrize("extra", ["--layer 'a b'", "--tile 5 --layer='a b'", "--layer x --layer 'a b' --smooth"])
def test_the_last_value_of_an_option_counts(extra: str) -> None:
    assert value_of("--layer", extra) == "a b"
    assert not value_of("--laye", extra)


def test_a_line_names_algorithms_and_says_how_to_resume_in_qgis() -> None:
    line = "interrupted; 8 of 24 tiles are finished and kept, the same command resumes"
    assert plain(line, {}).endswith("are finished and kept, run it again with the same settings and outputs to resume")
    ended = "interrupted; /a.tif is finished, /a.gpkg is not; continue with geoseg vectorize"
    labels = {"vectorize": "Polygons of a map", "train": "Train a model", "--out": "Map"}
    assert plain(ended, labels).endswith("continue with “Polygons of a map”")
    command = "to write only its polygons, run geoseg vectorize '/a b.tif' --out /a.gpkg --min-area 25.0"
    assert plain(command, labels) == "to write only its polygons, run “Polygons of a map”"
    assert plain("start from it: geoseg train (in Python geoseg.train) with x", labels).endswith(
        "“Train a model” with x"
    )
    assert plain("use geoseg train, or another --out", labels) == "use “Train a model”, or another “Map”"
    assert plain("give polygons of geoseg.vectorize", labels) == "give polygons of “Polygons of a map”"
    for path in ("/data/geoseg.train/a.tif", "/data/geoseg train/x.tif", "my geoseg train/x", "geoseg.train.tif"):
        assert plain(f"{path} is damaged", labels) == f"{path} is damaged"
    full = "the disk is full; free some space and run the same command again"
    assert plain(full, {}).endswith("free some space and run it again with the same settings and outputs")


def put_program(path: Path, body: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "place",
    [
        ".local/bin/geoseg",
        ".local/share/uv/tools/geoseg/bin/geoseg",
        "geoseg/.venv/bin/geoseg",
        "miniforge3/envs/geoseg/bin/geoseg",
        "geoseg-env/Scripts/geoseg.exe",
    ],
)
def test_geoseg_is_found_where_installers_put_it(tmp_path: Path, place: str) -> None:
    path = put_program(tmp_path / place)
    assert programs.find("", {"HOME": str(tmp_path), "PATH": "/nowhere"}) == str(path)


def test_what_is_set_comes_first_then_the_variable_then_the_path(tmp_path: Path) -> None:
    one, two, three = (put_program(tmp_path / name / "bin" / "geoseg") for name in "abc")
    given = {"HOME": str(tmp_path), "PATH": str(three.parent), "GEOSEG_EXECUTABLE": str(two)}
    assert programs.find(f' "{one}" ', given) == str(one)
    assert programs.find(str(tmp_path / "a"), given) == str(one)
    assert programs.find("", given) == str(two)
    assert programs.find("", {"PATH": str(three.parent)}) == str(three)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [("", "Plugins > geoseg > Settings"), ("/no/geoseg", "/no/geoseg does not exist"), (".", "contains no geoseg")],
)
def test_no_geoseg_is_one_sentence_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(programs.ProgramError, match=said) as caught:
        programs.find(chosen, {"HOME": str(tmp_path), "PATH": "/nowhere"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('geoseg, version 0.0.9')", "is geoseg 0.0.9, but this plugin needs 0.1.0 or later"),
        ("print('activated')\nprint('geoseg, version 0.0.9')", "is geoseg 0.0.9, but this plugin needs"),
        ("print('gnuplot 5.4')", "does not answer as geoseg does"),
        ("import nothing_like_this", "it says: ModuleNotFoundError"),
    ],
)
def test_a_program_that_will_not_do_is_one_sentence(program: Program, body: str, said: str) -> None:
    path = program(body)
    with pytest.raises(programs.ProgramError, match=said):
        programs.check_version(path)


def test_a_newer_geoseg_is_fine_and_asked_once(program: Program, tmp_path: Path) -> None:
    path = program(f"open({str(tmp_path / 'asked')!r}, 'a').write('x')\nprint('geoseg, version 12.3.4rc1')")
    programs.check_version(path)
    programs.check_version(path)
    assert (tmp_path / "asked").read_text() == "x"


def test_the_test_button_says_what_doctor_says(program: Program) -> None:
    finding = {"name": "geoseg", "state": "fit", "text": "0.1.0", "remedy": ""}
    torch = {"name": "torch", "state": "broken", "text": "cannot be imported", "remedy": "install it"}
    health = programs.examine(
        program(f"import json\nprint('''{json.dumps({'usable': False, 'findings': [finding, torch]})}''')")
    )
    assert (health.is_usable, health.version) == (False, "0.1.0")
    assert health.describe().splitlines() == ["geoseg: ok, 0.1.0", "torch: broken, cannot be imported -> install it"]
    with pytest.raises(programs.ProgramError):
        programs.examine(program("print('[]')", "other"))


def test_pages_escape_what_they_quote() -> None:
    page = text_page("A", "<b> & ü")
    assert "&lt;b&gt; &amp; ü" in page
    figures = {"overall_accuracy": 0.874, "classes": [{"name": "<x>", "iou": 0.5}], "map": "C:\\a\\m.tif"}
    page = accuracy_page(
        figures | {"miou_without_unknown": None, "confusion": {"names": ["<x>"], "counts": [[1234567]]}}
    )
    assert "<x>" not in page
    for shown in ("87.4 %", "50.0 %", "m.tif", "1 234 567"):
        assert shown in page


def test_the_page_has_what_the_command_prints_besides_the_tables() -> None:
    """The page has the notes, the pixels left out and the calibration error, each once and escaped."""
    matrix = ConfusionMatrix((0, 1, 2), ("<water>", "rock", "wood"), np.array([[5, 0, 1], [0, 0, 0], [0, 0, 0]]))
    table = Calibration.empty()
    table.count_px[-1], table.right_px[-1], table.confidence_sum[-1] = 6, 5, 5.7
    found = Evaluation.of(
        "m.tif", "r.tif", matrix, left_out=LeftOut(3, 4), calibration=table, notes=("r.tif is <old>", "said twice")
    )
    figures = json.loads(json.dumps(found.to_json()))
    page = accuracy_page(figures, ["said twice"], figures["notes"])
    notes = re.findall("<li>(.*?)</li>", page)
    assert [unescape(note) for note in notes] == [note for note in found.notes if note != "said twice"]
    assert len(notes) > 1
    assert page.count("said twice") == 1
    assert "<td>7 pixels</td>" in page
    assert f"<td>{table.error:.3f}</td>" in page
    assert "<li>" not in accuracy_page(figures)


def write_wheel(folder: Path, version: str) -> None:
    """Write the wheel of a fake geoseg that prints its version and reports no problems."""
    told = json.dumps({"usable": True, "findings": [{"name": "geoseg", "state": "fit", "text": version, "remedy": ""}]})
    program = f"import sys\ndef main():\n    print({told!r} if 'doctor' in sys.argv else 'geoseg, version {version}')\n"
    about = f"Metadata-Version: 2.1\nName: geoseg\nVersion: {version}\nProvides-Extra: train\n"
    info = f"geoseg-{version}.dist-info"
    with zipfile.ZipFile(folder / f"geoseg-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("geoseg_for_tests.py", program)
        wheel.writestr(f"{info}/METADATA", about)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\ngeoseg = geoseg_for_tests:main\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is pip's only index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_geoseg_is_installed_into_an_environment_of_its_own(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(wheels, "0.1.0")
    folder, lines = tmp_path / "Umgebung für geoseg", list[str]()
    path = installation.install(folder, sys.executable, lines.append, lambda: False)
    assert Path(path).parent.parent == folder
    programs.check_version(path)
    assert programs.examine(path).version == "0.1.0"
    assert programs.find(str(folder)) == path
    assert any("geoseg-0.1.0" in line for line in lines)
    with monkeypatch.context() as patched:
        patched.setattr(installation, "NEEDED", (9, 0, 0))  # which pip does not find
        with pytest.raises(programs.ProgramError, match=PIP_SAYS) as failed:
            installation.install(folder, sys.executable, lines.append, lambda: False)
    assert "\n" not in str(failed.value)
    assert programs.examine(path).version == "0.1.0", "what worked is gone"
    write_wheel(wheels, "0.2.0")  # the button again: an update
    path = installation.install(folder, sys.executable, lines.append, lambda: False)
    assert programs.examine(path).version == "0.2.0"


PIP_SAYS = r"could not be installed \(pip says: ERROR: .*geoseg"
MAKES_ENVIRONMENTS = """
import pathlib, shutil, sys
if sys.argv[4] != "venv":
    sys.exit("ERROR: No matching distribution found for geoseg")
inside = pathlib.Path(sys.argv[5], "bin", "python")
inside.parent.mkdir(parents=True)
shutil.copy(__file__, inside)
"""


def test_what_cannot_be_installed_is_one_sentence_and_leaves_nothing(tmp_path: Path, program: Program) -> None:
    folder, python = tmp_path / "env", program(MAKES_ENVIRONMENTS, "python")
    heard: list[bool] = []
    with pytest.raises(programs.ProgramError, match=PIP_SAYS):
        installation.install(folder, python, lambda _line: heard.append(folder.exists()), lambda: False)
    assert heard == [True], "pip was not asked in the new environment"
    assert not folder.exists()
    with pytest.raises(programs.ProgramError, match="was canceled"):
        installation.install(folder, sys.executable, lambda _line: None, lambda: True)
    assert not folder.exists()
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(programs.ProgramError, match="is no environment of Python"):
        installation.install(folder, sys.executable, lambda _line: None, lambda: False)
    assert (folder / "precious.txt").read_text() == "mine"


def test_a_python_is_one_that_can_make_environments(program: Program, tmp_path: Path) -> None:
    bodies = {"old": "print('3.9')", "broken": "import no_such", "fit": "print('3.11')"}
    old, broken, fit = (program(body, name) for name, body in bodies.items())
    assert installation.find_python(iter(["/no/python", old, broken, fit])) == fit
    with pytest.raises(programs.ProgramError, match=r"No Python 3\.11 or later"):
        installation.find_python(iter([old, broken]))
    inside = tmp_path / "QGIS" / "apps" / "Python312"
    for path in (tmp_path / "QGIS" / "bin" / "qgis-bin.exe", inside / "python.exe"):
        path.parent.mkdir(parents=True)
        path.write_text("")
    found = installation.beside_qgis(str(tmp_path / "QGIS" / "bin" / "qgis-bin.exe"), str(inside))
    assert found == [str(inside / "python.exe")]  # never QGIS itself


@pytest.mark.parametrize("windows", [False, True])
def test_what_was_installed_is_found_without_a_setting(tmp_path: Path, *, windows: bool) -> None:
    given = {"HOME": str(tmp_path), "PATH": ""} | ({"LOCALAPPDATA": str(tmp_path / "Local")} if windows else {})
    folder = installation.home_environment(given, windows=windows)
    name = folder / ("Scripts/geoseg.exe" if windows else "bin/geoseg")
    name.parent.mkdir(parents=True)
    name.write_text("")
    name.chmod(0o755)
    assert programs.find("", given) == str(name)
