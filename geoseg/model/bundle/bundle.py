"""One `.safetensors` file: weights and everything needed to use them correctly; never pickle, never code."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.catalog import sha256
from geoseg.errors import ModelError, UsageError, numbered
from geoseg.given import is_network, plain_arguments
from geoseg.legend import GivenLegend, given_legend
from geoseg.model.bundle.architectures import may_have_one_size, output_classes
from geoseg.model.bundle.card import (
    DEFAULT_BANDS,
    DEFAULT_DTYPE,
    DEFAULT_TEMPERATURE,
    DEFAULT_WINDOW_PX,
    VALUE_RANGES,
    ModelCard,
    Normalization,
    check_dtype,
    check_window,
    default_overlap,
    frozen_text,
)
from geoseg.model.bundle.header import read_header, readable
from geoseg.model.bundle.hub import HubModel, fetch, is_hub_address
from geoseg.model.bundle.mlm import from_mlm, to_mlm
from geoseg.model.bundle.pretrained import read_config
from geoseg.model.bundle.safe_json import parse_json
from geoseg.raster import BandStatistics
from geoseg.typed import as_path, checked

if TYPE_CHECKING:
    from geoseg.model.onnx_files import OnnxGraph  # above this one: it makes bundles

DEMO = Path(__file__).parent.with_name("demo.safetensors")
_DEMO_NAME = "demo"


def is_demo(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is "demo", the model that comes with geoseg; a file or folder of that name wins."""
    return os.fspath(path) == _DEMO_NAME and not Path(path).exists()


HUB = "hub"
"""The key in a model's provenance for its address on the hub, with the revision."""
METADATA_KEY = "geoseg"
"""The only metadata key that geoseg writes, in a bundle's header and in an ONNX file; its text is JSON."""
CARD_KEY = "geoseg:card"
"""The key of a model's card in the metadata of a standalone ONNX file; its text is JSON."""
MODEL_VARIABLE = "GEOSEG_MODEL"
"""The environment variable with the path of the default model."""
FUNCTION = "function"
"""The architecture of a model that is the caller's function."""
_TEXT_KEYS = {"card", "path", "bytes", "hash", "weights_hash"}
Function = Callable[[NDArray[np.float32]], Any]
"""Takes a batch, float32 (n, band, row, col), and returns probabilities (n, class, row, col)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundle(ModelCard):
    """A model's card and the path of its weights.

    A bundle is small and picklable, and needs no torch: only an engine reads the weights. Use `ModelBundle.open` or
    `ModelBundle.from_pretrained` to open one, `geoseg.save_bundle` to write one.
    """

    weights_path: Path
    """Absolute."""
    hash: str
    """sha256 of the file, hexadecimal; for a folder written by smp, of the weights and the card together."""
    weights_hash: str
    """sha256 of the weights file, hexadecimal."""
    weights_bytes: int
    function: Function | None = field(default=None, repr=False, compare=False)
    """The function that scores instead of a network; there is no weights file then, and `weights_path` is unused."""
    function_token: str = field(default="", repr=False)
    """Tells two functions of one name and version apart, in every process that receives them."""
    graph: OnnxGraph | None = None
    """The inputs and outputs of the network, if `weights_path` is an ONNX file."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that an engine reads."""
        data_files = () if self.graph is None else self.graph.data_files
        return () if self.function is not None else (self.weights_path, *map(self.weights_path.with_name, data_files))

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for people about what was inferred from the model, not stated by it."""
        return () if self.graph is None else tuple(f"{self.weights_path.name}: {note}" for note in self.graph.notes)

    @property
    def _states_sizes(self) -> bool:
        return self.function is not None or self.graph is not None

    @classmethod
    @plain_arguments()
    def open(cls, path: str | os.PathLike[str] | None = None) -> ModelBundle:
        """Open a bundle without reading its weights into memory. Nothing in the file is executed.

        Parameters
        ----------
        path : str or Path, optional
            A `.safetensors` bundle, or an `.onnx` file with metadata that describes it: see `from_onnx`.
            `hf://owner/name` or `hf://owner/name/file` is one on the Hugging Face hub, or weights there that
            `import_weights` recognizes completely; it is fetched once. "demo" is the model that comes with geoseg.
            Default: the model that the environment variable GEOSEG_MODEL names, else the demo model.

        Raises
        ------
        ModelError
            If the file is not a bundle, is cut short, or contradicts itself.

        Examples
        --------
        >>> ModelBundle.open("demo").bands
        ('red', 'green', 'blue')

        """
        named = os.environ.get(MODEL_VARIABLE) if path is None else None
        if named:
            return _open_named(named)
        if path is not None and is_hub_address(path):
            return _open_fetched(fetch(path))
        file = DEMO if path is None or is_demo(path) else Path(path)
        if file.is_dir():
            read_config(file)
            raise UsageError(
                f"{file} is a folder; one written by smp's save_pretrained also needs `legend`, `mean` and `std` "
                "(in Python: ModelBundle.from_pretrained)"
            )
        if not file.is_file():
            if file.exists():
                raise ModelError(f"{file} is not a file; give a .safetensors bundle or an .onnx file")
            hint = "this installation has no demo model; name another" if file == DEMO else "check the path"
            raise ModelError(f"{file} does not exist; {hint}")
        if file.suffix.lower() == ".onnx":
            return cls.from_onnx(file)
        metadata = read_header(file).metadata
        if METADATA_KEY not in metadata:
            raise ModelError(
                f"{file} holds weights without a description of the model; geoseg import (in Python "
                "geoseg.import_weights) makes a bundle from them"
            )
        card, digest = card_of_text(metadata[METADATA_KEY], f"the metadata of {file}"), file_hash(file)
        return _with_weights(card, file, digest, digest)

    @classmethod
    @plain_arguments()
    def from_pretrained(  # noqa: PLR0913 - a model has this many properties, and smp's folder few of them
        cls,
        folder: str | os.PathLike[str],
        *,
        legend: GivenLegend | None = None,
        normalization: Normalization | None = None,
        output_codes: tuple[int, ...] | None = None,
        bands: tuple[str, ...] | None = None,
        dtype: str = DEFAULT_DTYPE,
        statistics: BandStatistics | None = None,
        gsd_m: float | None = None,
        window_px: int | None = None,
        overlap_px: int | None = None,
        temperature: float = DEFAULT_TEMPERATURE,
        name: str | None = None,
    ) -> ModelBundle:
        """Open a folder written by smp's `save_pretrained` (config.json, model.safetensors); nothing is fetched.

        Parameters
        ----------
        folder : str or Path
            A network with one output channel has two classes: the background and the one it detects.
        legend, normalization
            Required, because the folder does not contain them; the classes as a Legend, a dict of names by code, or
            the path of a legend file.
        output_codes : tuple of int, optional
            The class code of each output channel; by default the legend's codes, ascending.
        bands : tuple of str, optional
            Default: red, green, blue if there are three, else band_1, band_2, ..., the first bands of a scene.
        dtype, statistics, gsd_m
            Of the training imagery: data type, statistics in stored units, meters per pixel.
        window_px, overlap_px : int, optional
            Default: 512 if the network accepts that, else the one size it was made for; a quarter of the window.
        temperature : float, optional
            Divides the logits.
        name : str, optional
            Default: the folder's name.

        Raises
        ------
        UsageError
            Without a legend and a normalization, or if the arguments do not fit together.
        ModelError
            If the folder holds only a pickle, or its configuration has anything unknown.

        """
        folder, title, hub = located(folder)
        architecture, arguments = read_config(folder)
        if legend is None or normalization is None:
            raise UsageError(
                f"{folder} does not say what its {output_classes(arguments)} classes are, nor how its "
                f"{numbered(arguments['in_channels'], 'band')} were normalized; "
                "give `legend`, `mean` and `std` to predict or export (in Python, legend and normalization to "
                "ModelBundle.from_pretrained)"
            )
        classes = given_legend(legend)
        if window_px is None:
            window_px = _usual_window(architecture, arguments)
        if bands is None:
            bands = usual_bands(arguments["in_channels"])
        card = ModelCard(
            name=name or title,
            architecture=architecture,
            arguments_text=frozen_text(arguments, "arguments"),
            legend=classes,
            output_codes=classes.codes if output_codes is None else output_codes,
            bands=bands,
            dtype=dtype,
            normalization=normalization,
            statistics=statistics,
            gsd_m=gsd_m,
            window_px=window_px,
            overlap_px=default_overlap(window_px) if overlap_px is None else overlap_px,
            temperature=temperature,
            provenance_text=frozen_text(hub, "provenance"),
        )
        weights = folder / "model.safetensors"
        read_header(weights)
        digest = file_hash(weights)
        both = f"{digest}\n{json.dumps(to_mlm(card), sort_keys=True)}"
        return _with_weights(card, weights, digest, hashlib.sha256(both.encode()).hexdigest())

    @classmethod
    @plain_arguments()
    def from_onnx(  # noqa: PLR0913 - as above
        cls,
        path: str | Path,
        *,
        legend: GivenLegend | None = None,
        normalization: Normalization | None = None,
        output_codes: Sequence[int] | None = None,
        bands: Sequence[str] | None = None,
        dtype: str | None = None,
        statistics: BandStatistics | None = None,
        gsd_m: float | None = None,
        window_px: int | None = None,
        overlap_px: int | None = None,
        activation: Literal["softmax", "sigmoid", "none"] | None = None,
        network_output: str | None = None,
        name: str | None = None,
    ) -> ModelBundle:
        """Open any ONNX file; ONNX Runtime runs it. Nothing outside its folder is read.

        Missing arguments are taken from the file's metadata, if written by geoseg (`geoseg export`) or for Deepness,
        else from the graph and a trial run on a little noise.

        Parameters
        ----------
        path : str or Path
            It takes one image, (n, band, row, col) or (n, row, col, band), as floats or integers, and returns scores
            (n, class, row, col), with as many pixels as the window, fewer, or more. Weights may be in files next to it.
        legend : Legend, dict of names by code, or path of a legend file, optional
            The classes. Required if the file names none.
        normalization : Normalization, optional
            Applied to stored values. Required if the network takes floats and the file does not give it.
        output_codes : sequence of int, optional
            The class code of each output channel; by default the legend's codes, ascending. A network with one
            channel has two, the background's first.
        bands : sequence of str, optional
            Default: red, green, blue if there are three, else band_1, band_2, ..., the first bands of a scene.
        dtype, statistics, gsd_m
            Of the training imagery: data type, statistics in stored units, meters per pixel.
        window_px, overlap_px : int, optional
            Default: the one size that the file accepts, else its metadata's, else 512; a quarter of the window.
        activation : {"softmax", "sigmoid", "none"}, optional
            Turns the output into probabilities: softmax or sigmoid for logits, none if it is probabilities already.
            Inferred by default, from the output's values and the last operator.
        network_output : str, optional
            Which output to use if there are several.
        name : str, optional
            Default: the file's name.

        Raises
        ------
        UsageError
            Without a legend or a normalization that is required, or if the arguments do not fit together.
        ModelError
            If the file is not ONNX, has weights outside its folder, or is not a network that geoseg can run.

        Examples
        --------
        >>> imagenet = Normalization(mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
        >>> ModelBundle.from_onnx("roofs.onnx", legend=legend, normalization=imagenet, gsd_m=0.1)  # doctest: +SKIP

        """
        from geoseg.model import GivenOnnx, open_onnx  # noqa: PLC0415 - through the face: it makes bundles

        file = as_path("path", path)
        fetched = fetch(file) if is_hub_address(file) else None
        options = GivenOnnx(
            legend=None if legend is None else given_legend(legend),
            normalization=normalization,
            output_codes=None if output_codes is None else tuple(output_codes),
            bands=None if bands is None else tuple(bands),
            dtype=dtype,
            statistics=statistics,
            gsd_m=gsd_m,
            window_px=window_px,
            overlap_px=overlap_px,
            activation=activation,
            network_output=network_output,
            name=name or (None if fetched is None else fetched.title),
        )
        if fetched is not None:
            return _from_hub(open_onnx(fetched.path, options), fetched)
        return open_onnx(Path(file), options)

    @classmethod
    @plain_arguments()
    def from_callable(  # noqa: PLR0913 - as above
        cls,
        function: Function,
        *,
        legend: GivenLegend,
        bands: Sequence[str] = DEFAULT_BANDS,
        window_px: int = DEFAULT_WINDOW_PX,
        overlap_px: int | None = None,
        divisor: int = 1,
        output_codes: Sequence[int] | None = None,
        dtype: str = DEFAULT_DTYPE,
        normalization: Normalization | None = None,
        statistics: BandStatistics | None = None,
        gsd_m: float | None = None,
        name: str | None = None,
        version: str | None = None,
    ) -> ModelBundle:
        """Make a model from a plain function: any library's network, a rule, a lookup.

        Parameters
        ----------
        function : callable
            Takes a batch of windows, float32 (n, band, row, col), normalized; gaps of invalid pixels are filled by the
            image mirrored at their edges. Returns the class probabilities, (n, class, row, col), as an array or a torch
            tensor. They are checked: shape, finite, summing to one within 0.01. It is called for one batch at a time. A
            torch network, in evaluation mode, gets a tensor on its own device; if it returns logits, wrap it:
            `torch.nn.Sequential(network, torch.nn.Softmax(1))`.
        legend : Legend, dict of names by code, or path of a legend file
            The classes.
        bands : sequence of str
            The names of the bands, in the order of the batch: red, green, blue, nir, ...
        window_px, overlap_px : int
            Edge of the windows, and the overlap of two neighbors (default: a quarter of the edge), in pixels.
        divisor : int
            A window's size must be a multiple of it.
        output_codes : sequence of int, optional
            The class code of each channel; by default the legend's codes, in order.
        dtype : str
            Data type of the imagery that the function expects: uint8, uint16, int16 or float32.
        normalization : Normalization, optional
            Applied to stored values first; none by default.
        statistics : BandStatistics, optional
            Of the training imagery, to warn about scenes that look different.
        gsd_m : float, optional
            Meters per pixel of the training imagery.
        name : str, optional
            For people and for the map's provenance; by default the function's own.
        version : str, optional
            Identifies the function, so that another process can resume a run; change it whenever the results change.
            Without a version, a run resumes only with this bundle object.

        Raises
        ------
        UsageError
            If an argument is not valid.

        Examples
        --------
        >>> def water(batch):  # doctest: +SKIP
        ...     wet = 1 / (1 + np.exp(batch[:, 3] - batch[:, 1]))
        ...     return np.stack([wet, 1 - wet], axis=1)
        >>> bands = ("red", "green", "blue", "nir")
        >>> bundle = ModelBundle.from_callable(water, legend=legend, bands=bands)  # doctest: +SKIP

        Notes
        -----
        It runs through the same plan, tiles and blending as a network. Dask workers in other processes receive the
        function through cloudpickle.

        """
        if is_network(function) and function.training:  # type: ignore[attr-defined] # all networks have it
            raise UsageError(
                "the network is in training mode, where a window's classes depend on the others of its batch; call its "
                "eval() first",
                "function",
            )
        classes = given_legend(legend)
        codes = classes.codes if output_codes is None else tuple(output_codes)
        if len(codes) < 2:
            raise UsageError(f"a model needs at least two classes, got {len(codes)}", "legend")
        check_window(window_px, divisor, "window_px")
        if normalization is None:  # one that changes nothing
            check_dtype(dtype)
            normalization = Normalization((0.0,) * len(bands), (1.0,) * len(bands), VALUE_RANGES[dtype])
        title = name or getattr(function, "__qualname__", type(function).__qualname__)
        card: dict[str, Any] = {
            "name": title,
            "architecture": FUNCTION,
            "arguments_text": frozen_text(
                {"in_channels": len(bands), "classes": len(codes), "divisor": divisor}, "arguments"
            ),
            "legend": classes,
            "output_codes": codes,
            "bands": tuple(bands),
            "dtype": dtype,
            "normalization": normalization,
            "statistics": statistics,
            "gsd_m": gsd_m,
            "window_px": window_px,
            "overlap_px": default_overlap(window_px) if overlap_px is None else overlap_px,
        }
        identity = [title, version or uuid.uuid4().hex, *(repr(value) for value in card.values())]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        card |= {"function": function, "function_token": uuid.uuid4().hex}
        return cls(**card, weights_path=Path(), hash=digest, weights_hash=digest, weights_bytes=0)

    def to_json(self) -> dict[str, Any]:
        """Return the card as plain JSON values, as in the file's header."""
        return to_mlm(self)

    def to_text(self) -> str:
        """Return the bundle without its weights as one JSON text, for another process on this machine."""
        file = {"path": str(self.weights_path), "bytes": self.weights_bytes}
        return json.dumps({"card": to_mlm(self), "hash": self.hash, "weights_hash": self.weights_hash} | file)

    @classmethod
    @checked
    def from_text(cls, text: str) -> ModelBundle:
        """Return the bundle that `to_text` was called on; ModelError if the text is not its output."""
        source = "the bundle of the other process"
        values = parse_json(text, source)
        if not isinstance(values, dict) or not values.keys() >= _TEXT_KEYS:
            raise ModelError(f"{source} is {text!r:.60}, expected what to_text gives")
        card = from_mlm(values["card"], source)
        return _bundle(card, Path(values["path"]), values["weights_hash"], values["bytes"], values["hash"])


def file_hash(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal; ModelError if it cannot be read."""
    with readable(path):
        return sha256(path)


def usual_bands(count: int) -> tuple[str, ...]:
    """Return default names for a number of bands."""
    return DEFAULT_BANDS if count == len(DEFAULT_BANDS) else tuple(f"band_{n}" for n in range(1, count + 1))


def card_of_text(text: str, source: str) -> ModelCard:
    """Return the card in an untrusted JSON text; ModelError, naming the source, if it is not a card."""
    return from_mlm(parse_json(text, source), source)


def located(path: str | os.PathLike[str]) -> tuple[Path, str, dict[str, str]]:
    """Return a file or folder, fetched if it is on the hub, its title, and its address there for the provenance."""
    if is_hub_address(path):
        fetched = fetch(path)
        return fetched.path, fetched.title, {HUB: str(fetched.address)}
    path = Path(path)
    return path, path.resolve().name if path.is_dir() else path.stem, {}


def _open_fetched(fetched: HubModel) -> ModelBundle:
    """Return a model from the hub; weights that are not a bundle are converted once, into geoseg's own cache."""
    if fetched.path.is_dir():
        raise UsageError(
            f"{fetched.address} was written by smp's save_pretrained and also needs `legend`, `mean` and `std` (in "
            "Python: ModelBundle.from_pretrained)"
        )
    is_whole = fetched.path.suffix.lower() == ".onnx" or (
        fetched.path.suffix.lower() == ".safetensors" and METADATA_KEY in read_header(fetched.path).metadata
    )
    if is_whole:
        return _from_hub(ModelBundle.open(fetched.path), fetched)
    from geoseg.model import import_once  # noqa: PLC0415 - through the face: it makes bundles

    return _from_hub(ModelBundle.open(import_once(fetched.path)), fetched)


def _from_hub(bundle: ModelBundle, fetched: HubModel) -> ModelBundle:
    """Return the bundle with its hub address and revision in its provenance."""
    provenance = bundle.provenance | {HUB: str(fetched.address)}
    return replace(bundle, provenance_text=frozen_text(provenance, "provenance"))


def as_bundle(model: str | os.PathLike[str] | ModelBundle | None, window_px: int | None = None) -> ModelBundle:
    """Return the model given to a verb: a bundle, its path, or None for the default model."""
    if isinstance(model, ModelBundle):
        return model

    def open_for(size_px: int | None) -> ModelBundle:
        if size_px is None:
            return ModelBundle.open(model)
        if model is None:
            return _open_named(os.environ[MODEL_VARIABLE], size_px)
        return ModelBundle.from_onnx(os.fspath(model), window_px=size_px)

    return open_at_need(open_for, window_px)


def open_at_need(open_for: Callable[[int | None], ModelBundle], window_px: int | None) -> ModelBundle:
    """Return the model that `open_for(None)` opens; for ONNX files that need a size to be tried, `open_for(window_px)`.

    These run in no usual size, or seem to take one only: a network that resizes its output to a constant size runs in
    many, but fits one. The requested window is not part of the model otherwise, so the model's hash does not depend on
    it. `window_px` is the argument `window` of a verb, which is what errors call it.
    """
    try:
        bundle = open_for(None)
    except ModelError as fault:
        if window_px is None or fault.parameter != "window":
            raise
        try:
            return open_for(window_px)
        except (ModelError, UsageError) as refusal:
            raise refusal.renamed(window_px="window") from None
    if window_px is None or bundle.graph is None or bundle.graph.input.size_px in {None, window_px}:
        return bundle
    try:
        return open_for(window_px)
    except (ModelError, UsageError):
        return bundle  # the verb refuses the window


def _open_named(path: str, window_px: int | None = None) -> ModelBundle:
    """Return the model that the environment variable names; errors mention the variable."""
    try:
        return ModelBundle.open(path) if window_px is None else ModelBundle.from_onnx(path, window_px=window_px)
    except (ModelError, UsageError) as fault:
        raise type(fault)(f"{fault}; the environment variable {MODEL_VARIABLE} names it", fault.parameter) from None


def _usual_window(architecture: str, arguments: dict[str, Any]) -> int:
    """Return a network's default window; torch is loaded only if the network itself must be asked."""
    if not may_have_one_size(arguments):
        return DEFAULT_WINDOW_PX
    from geoseg.model import usual_window_px  # noqa: PLC0415 - by the face: bundles load no network, the CPU path no torch

    return usual_window_px(architecture, arguments)


def _with_weights(card: ModelCard, path: Path, weights_hash: str, whole_hash: str) -> ModelBundle:
    return _bundle(card, path.resolve(), weights_hash, path.stat().st_size, whole_hash)


def _bundle(card: ModelCard, path: Path, weights_hash: str, size_bytes: int, whole_hash: str) -> ModelBundle:
    card_fields: dict[str, Any] = {field.name: getattr(card, field.name) for field in fields(ModelCard)}
    return ModelBundle(
        **card_fields, weights_path=path, weights_hash=weights_hash, weights_bytes=size_bytes, hash=whole_hash
    )
