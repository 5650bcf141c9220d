"""The verb `doctor`: check the libraries, devices, memory and disks that geoseg needs, and suggest fixes.

Nothing that may be broken is imported at the top. torch is tried in a separate process, and imported here only if
there is a GPU to test.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from geoseg.errors import GeosegError, numbered, one_line
from geoseg.machine import available_cores, available_memory_bytes, is_python, python_environment
from geoseg.model import CACHE_VARIABLE, cache_folder, choose_device, cuda_devices, has_mps
from geoseg.version import VERSION

_RASTER_DRIVERS = ("GTiff", "COG", "VRT")
_VECTOR_DRIVERS = ("GPKG", "FlatGeobuf", "GeoJSON")
"""Formats that GDAL must be able to write; pyarrow writes GeoParquet."""
_EXTENSIONS = ("numpy", "shapely", "pyarrow", "numba", "onnxruntime")
"""Compiled libraries that every run needs: when broken, they install but fail to load."""
_NETWORK_LIBRARIES = ("torch", "torchvision")
"""Libraries that build networks; timm requires torchvision, whose release must match torch's."""
_TORCH_REMEDY = (
    "install torch and torchvision of one release together, such as the pair of constraints.txt, by the line that "
    "https://pytorch.org/get-started gives"
)
_SCARCE_BYTES = 10**9
_REINSTALL = "pip install --force-reinstall {}"
_EXTRA = re.compile(r"""^(?P<package>[\w.-]+).*;.*\bextra\s*==\s*['"](?P<extra>[\w-]+)['"]""")
_PATIENCE_S = 180.0
"""Imports take seconds on an idle machine, but far longer from a cold network disk."""
_LONGEST_CAUSE = 300
_LOADING, _FAILED = "geoseg loads ", "geoseg fails with "
_PROGRAM = f"""import importlib, sys
sys.stdout.reconfigure(encoding="utf-8", errors="replace")
for name in sys.argv[1:]:
    print({_LOADING!r} + name, flush=True)
    try:
        importlib.import_module(name)
    except Exception as error:
        print({_FAILED!r} + type(error).__name__ + ": " + " ".join(str(error).split()), flush=True)
        sys.exit(1)
"""
"""Prints each module's name before loading it, to identify one that ends the process."""
State = Literal["fit", "unfit", "broken"]
"""unfit: geoseg works, except for what the text names. broken: it does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    name: str
    """A key that does not change between versions."""
    state: State
    text: str
    remedy: str = ""
    """What to do; empty if all is well."""


@dataclass(frozen=True, slots=True, repr=False)
class Diagnosis:
    """The results of all checks, in order."""

    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether geoseg can work here."""
        return all(finding.state != "broken" for finding in self.findings)

    def __repr__(self) -> str:
        return self.describe()

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {"usable": self.usable, "findings": [asdict(finding) for finding in self.findings]}

    def describe(self) -> str:
        """Return one line per finding, with its remedy on the line below."""
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            mark = {"fit": "ok    ", "unfit": "note  ", "broken": "BROKEN"}[finding.state]
            lines.append(f"{mark}  {finding.name:<{width}}  {finding.text}")
            if finding.remedy:
                lines.append(f"{'':<{8 + width}}  -> {finding.remedy}")
        return "\n".join(lines)


def doctor() -> Diagnosis:
    """Check GDAL, PROJ, torch, the GPU, memory, disks and optional dependencies; it takes a few seconds.

    Returns
    -------
    Diagnosis
        The findings in order, each with a name, a state (fit, unfit, broken), a text and, unless fit, a remedy.
        `usable` says whether geoseg can work here, `describe()` gives text for people, `to_json()` values for
        programs.

    Examples
    --------
    >>> geoseg.doctor().usable  # doctest: +SKIP
    True

    """
    return Diagnosis(tuple(finding for check in _CHECKS for finding in _safely(check)))


def gdal_text() -> str:
    """Return GDAL's version, and that of the vector library's copy if different; ImportError if broken."""
    rasterio, pyogrio = importlib.import_module("rasterio"), importlib.import_module("pyogrio")
    raster, vector = rasterio.__gdal_version__, ".".join(map(str, pyogrio.__gdal_version__))
    return raster if raster == vector else f"{raster} (rasters), {vector} (polygons)"


def device_text() -> str:
    """Return the devices that run networks here, without importing torch: `1 GPU (NVIDIA H200)`, `CPU: ...`."""
    count = cuda_devices()
    if count:
        return f"{numbered(count, 'GPU')} ({', '.join(dict.fromkeys(_gpu_names(count)))})"
    if has_mps():
        return "GPU of this Mac (mps)"
    return f"CPU: {_why_no_gpu()}"


def version_of(package: str) -> str:
    """Return the version of a package without importing it, or `not installed`."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _safely(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield a check's findings; an error in the check itself is a finding too."""
    name = check.__name__.strip("_")
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - a broken machine may raise any error
        yield Finding(name, "broken", _line(error), f"try {name} in a fresh environment")


def _python() -> Iterator[Finding]:
    yield Finding("geoseg", "fit", VERSION)
    yield Finding("python", "fit", f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def _libraries() -> Iterator[Finding]:
    for name in _EXTENSIONS:
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            yield Finding(name, "broken", f"cannot be loaded: {_line(error)}", _REINSTALL.format(name))
            continue
        if name == "numba" and module.config.DISABLE_JIT:
            yield Finding(name, "broken", "NUMBA_DISABLE_JIT turns off its compiler", "unset this variable")
        else:
            yield Finding(name, "fit", str(getattr(module, "__version__", version_of(name))))


def _torch() -> Iterator[Finding]:
    version = version_of("torch")
    if version == "not installed":
        text, remedy = "not installed: models cannot be trained or exported, and no GPU is used", "pip install torch"
        yield Finding("torch", "broken", text, remedy)
        return
    broken, cause = _broken_import(_NETWORK_LIBRARIES) or (None, "")
    for name in _NETWORK_LIBRARIES:
        if name == broken:
            yield Finding(name, "broken", f"{version_of(name)}, cannot be loaded: {cause}", _TORCH_REMEDY)
            return
        yield Finding(name, "fit", version_of(name))


def _model() -> Iterator[Finding]:
    from geoseg.model import MODEL_VARIABLE, ModelBundle  # noqa: PLC0415 - it may not load

    try:
        bundle = ModelBundle.open()
    except GeosegError as error:
        yield Finding(
            "model", "unfit", _line(error), f"correct the variable {MODEL_VARIABLE}, or give a model each time"
        )
        return
    named = MODEL_VARIABLE if os.environ.get(MODEL_VARIABLE) else "the demo model"
    yield Finding("model", "fit", f"{bundle.name}, used by default ({named})")


def _gdal() -> Iterator[Finding]:
    try:
        text = gdal_text()
        lost = sorted({*_RASTER_DRIVERS} - _raster_drivers()), sorted({*_VECTOR_DRIVERS} - _vector_drivers())
    except (ImportError, OSError) as error:
        remedy = _REINSTALL.format("rasterio pyogrio")
        yield Finding("gdal", "broken", f"cannot be loaded: {_line(error)}", f"{remedy}; their wheels include GDAL")
        return
    for names, package in zip(lost, ("rasterio", "pyogrio"), strict=True):
        if names:
            remedy = f"{_REINSTALL.format(package)}, or unset GDAL_SKIP; a GDAL that you built needs these drivers"
            yield Finding("gdal", "broken", f"the GDAL of {package} lacks {', '.join(names)}", remedy)
    if not any(lost):
        yield Finding("gdal", "fit", f"{text}; writes {', '.join((*_RASTER_DRIVERS, *_VECTOR_DRIVERS))}")


def _raster_drivers() -> set[str]:
    with importlib.import_module("rasterio").Env() as environment:
        return set(environment.drivers())


def _vector_drivers() -> set[str]:
    return set(importlib.import_module("pyogrio").list_drivers(write=True))


def _proj() -> Iterator[Finding]:
    """Look up a CRS in PROJ's database: the usual problem is environment variables set for another PROJ."""
    own_data = importlib.import_module("geoseg.raster.own_data")  # as every verb does before it uses PROJ
    foreign = own_data.use_own_proj_data()
    lookups: dict[str, Callable[[], Any]] = {
        "rasters": lambda: importlib.import_module("rasterio.crs").CRS.from_epsg(32631),
        "polygons": lambda: importlib.import_module("pyproj").CRS.from_epsg(32631),
    }
    broken = False
    for library, look_up in lookups.items():
        try:
            look_up()
        except Exception as error:  # noqa: BLE001 - each library has its own errors
            broken = True
            names = [name for name in ("PROJ_DATA", "PROJ_LIB") if name in os.environ]
            remedy = f"unset {' and '.join(names)}" if names else _REINSTALL.format("rasterio pyproj")
            yield Finding("proj", "broken", f"cannot look up a CRS ({library}): {_line(error)}", remedy)
    if not broken:
        text = f"{importlib.import_module('pyproj').proj_version_str}, with its database"
        yield Finding("proj", "fit", f"{text}; {foreign}" if foreign else text)


def _gpu() -> Iterator[Finding]:
    for number, name in enumerate(_gpu_names(cuda_devices())):
        try:
            choose_device(f"cuda:{number}")
        except GeosegError as error:
            yield Finding("gpu", "unfit", f"{name}, not used: {error}", "install a torch that was built for this GPU")
        else:
            yield Finding("gpu", "fit", f"{name} (cuda:{number})")
    if not cuda_devices():
        yield Finding("gpu", "fit", "Apple's (mps)" if has_mps() else f"none, the CPU is used: {_why_no_gpu()}")


def _gpu_names(count: int) -> list[str]:
    """Return the names of GPUs from the NVIDIA driver, without torch."""
    if not count:
        return []
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    names = []
    for number in range(count):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
        known = driver.cuDeviceGet(ctypes.byref(device), number) == 0
        known = known and driver.cuDeviceGetName(name, len(name), device) == 0
        names.append(name.value.decode(errors="replace") if known else "an NVIDIA GPU")
    return names


def _why_no_gpu() -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in {"", "-1"}:
        return f"CUDA_VISIBLE_DEVICES={hidden} hides all GPUs"
    return "no NVIDIA driver, or it finds no GPU"


def _machine() -> Iterator[Finding]:
    yield Finding("cores", "fit", f"{available_cores()} of {os.cpu_count()}")
    total, free = int(importlib.import_module("psutil").virtual_memory().total), available_memory_bytes()
    text = f"{_size(free)} free of {_size(total)}"
    if free < _SCARCE_BYTES:
        yield Finding("memory", "unfit", text, "close other programs, or give predict a smaller `workers` and `tile`")
    else:
        yield Finding("memory", "fit", text)


def _disks() -> Iterator[Finding]:
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError as error:
        yield Finding("temporary files", "broken", _line(error), "set TMPDIR to a folder that can be written")
    else:
        yield _disk("temporary files", temporary, "set TMPDIR to a larger disk")
    yield _disk("working folder", Path.cwd(), "write to another `out`")
    folder = cache_folder()
    yield _disk("cache", folder, f"set {CACHE_VARIABLE} to another folder", f", holds {_size(_bytes_in(folder))}")


def _disk(name: str, folder: Path, remedy: str, detail: str = "") -> Finding:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        return Finding(name, "unfit", f"{folder} cannot be written", remedy)
    free = shutil.disk_usage(existing).free
    text = f"{folder}: {_size(free)} free{detail}"
    return Finding(name, "unfit", text, remedy) if free < _SCARCE_BYTES else Finding(name, "fit", text)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # another process has just removed it
            continue
    return total


def _extras() -> Iterator[Finding]:
    """Yield whether each extra is complete, according to the package's own metadata."""
    try:
        lines = importlib.metadata.requires("geoseg") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("extras", "unfit", "geoseg itself is not installed", "pip install . in its folder")
        return
    members: dict[str, list[str]] = {}
    for match in filter(None, map(_EXTRA.match, lines)):
        members.setdefault(match["extra"], []).append(match["package"])
    for extra, packages in sorted(members.items()):
        lost = [package for package in packages if version_of(package) == "not installed"]
        if lost:
            text = f"{', '.join(lost)} not installed"
            yield Finding(f"[{extra}]", "unfit", text, f"pip install 'geoseg[{extra}]', if you need it")
        else:
            yield Finding(f"[{extra}]", "fit", ", ".join(f"{name} {version_of(name)}" for name in packages))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"


def _line(error: BaseException) -> str:
    return one_line(error, None) or type(error).__name__


def _broken_import(modules: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the first module that a new Python process cannot import, and why, on one line; None if it can import all.

    Also None if Python is embedded in another program and cannot be started.
    """
    if not is_python():
        return None
    # -P and this process's own path, so that a torch.py in the working directory is not imported
    command = [sys.executable, "-P", "-c", _PROGRAM, *modules]
    with subprocess.Popen(  # noqa: S603 - this Python, and the program above
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        encoding="utf-8", errors="replace", env=python_environment(),
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=_PATIENCE_S)
            end = _end(process.returncode)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            end = f"not finished after {_PATIENCE_S:.0f} s"
        except BaseException:  # on Ctrl-C, leave no process behind
            process.kill()
            raise
    if process.returncode == 0:
        return None
    loading = [line.removeprefix(_LOADING) for line in output.splitlines() if line.startswith(_LOADING)]
    causes = [line.removeprefix(_FAILED) for line in output.splitlines() if line.startswith(_FAILED)]
    cause = textwrap.shorten(causes[-1], _LONGEST_CAUSE, placeholder=" ...") if causes else end
    return loading[-1] if loading else modules[0], cause


def _end(code: int) -> str:
    """Describe from its exit code how a process ended that gave no reason."""
    if code < 0:
        return f"the import was ended by {signal.Signals(-code).name}"
    return f"the import ended with exit code {code}"


_CHECKS = (_python, _libraries, _torch, _model, _gdal, _proj, _gpu, _machine, _disks, _extras)
