"""Makes a model from any ONNX file: from its metadata, a trial run, and what the caller gives."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import get_args

import numpy as np

from geoseg.errors import ModelError, UsageError, enumerated, named, numbered
from geoseg.legend import LandCover, Legend, distinct_color
from geoseg.model.bundle import (
    CARD_KEY,
    DEFAULT_DTYPE,
    METADATA_KEY,
    ONNX,
    OVERLAP_SHARE,
    VALUE_RANGES,
    ModelBundle,
    ModelCard,
    Normalization,
    card_of_text,
    check_dtype,
    check_window,
    frozen_text,
    to_mlm,
    usual_bands,
)
from geoseg.model.onnx_files.deepness import BACKGROUND, Deepness, legend_of_names, read_deepness
from geoseg.model.onnx_files.graph import Activation, OnnxInput, check_outputs, hidden_scores, read_input
from geoseg.model.onnx_files.onnx_file import OnnxFile, files_digest, read_onnx_file
from geoseg.model.onnx_files.session import Trial, try_out
from geoseg.raster import BandStatistics

ACTIVATIONS: tuple[str, ...] = get_args(Activation)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenOnnx:
    """What the caller states about an ONNX file; None is left to the file. The fields are those of a ModelCard."""

    legend: Legend | None = None
    normalization: Normalization | None = None
    output_codes: tuple[int, ...] | None = None
    bands: tuple[str, ...] | None = None
    dtype: str | None = None
    statistics: BandStatistics | None = None
    gsd_m: float | None = None
    window_px: int | None = None
    overlap_px: int | None = None
    activation: Activation | None = None
    network_output: str | None = None
    name: str | None = None


def open_onnx(path: Path, given: GivenOnnx) -> ModelBundle:
    """Open an ONNX file as a model; see `ModelBundle.from_onnx`."""
    known = KnownOnnx.read(path, given)
    if known.missing:
        parameters = enumerated(map(named, known.parameters))
        raise UsageError(
            f"{known.file.path} does not say {known.missing}; give {parameters} to predict or export "
            "(in Python, legend and normalization to ModelBundle.from_onnx)"
        )
    return known.bundle()


@dataclass(frozen=True, slots=True)
class KnownOnnx:
    """Everything known about an ONNX file before it is run."""

    file: OnnxFile
    input: OnnxInput
    given: GivenOnnx
    """What the caller states."""
    completed: GivenOnnx
    """The same, completed from the file."""
    overlap_share: float
    """Overlap as a share of the window, from the file or the usual one."""
    card: ModelCard | None
    """The card, if geoseg wrote or completed the file."""

    @classmethod
    def read(cls, path: Path, given: GivenOnnx) -> KnownOnnx:
        """Read a file; ModelError if it cannot be a model, whatever else is given."""
        if given.activation is not None and given.activation not in ACTIVATIONS:
            raise UsageError(
                f"`activation` must be one of {', '.join(ACTIVATIONS)}, got {given.activation!r:.40}", "activation"
            )
        if given.window_px is not None:
            check_window(given.window_px, 1, "window_px")  # the trial run finds the divisor
        if not path.is_file():  # a pipe would be waited for
            raise ModelError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; give an .onnx file")
        file = read_onnx_file(path)
        if METADATA_KEY in file.metadata and CARD_KEY not in file.metadata:
            raise ModelError(
                f"{path} is the export that geoseg runs on a CPU; give the .safetensors bundle next to it, or make a "
                "standalone file with geoseg export"
            )
        if hidden_scores(file) is None:
            check_outputs(file)
        card = card_of_text(file.metadata[CARD_KEY], f"the metadata of {path}") if CARD_KEY in file.metadata else None
        stated = [field.name for field in fields(given) if getattr(given, field.name) is not None]
        output_index = _output_index(file, given)
        metadata = read_deepness(file.metadata, str(path), output_index, given=stated) if card is None else None
        completed = _completed(given, card, metadata)
        input_spec = read_input(file, None if completed.normalization is None else len(completed.normalization.mean))
        if given.normalization is None and completed.normalization is not None:
            completed = replace(completed, normalization=_for_each_band(completed.normalization, input_spec.bands))
        if given.normalization is not None and not input_spec.dtype.startswith("float"):
            raise UsageError(
                f"{path} takes stored {input_spec.dtype} values and normalizes them itself; leave out `mean` and `std`",
                "mean",
            )
        if given.dtype is not None:
            _check_dtype(given.dtype, path, given, card, completed, input_spec)
        return cls(
            file,
            input_spec,
            given,
            _with_defaults(completed, metadata, input_spec, path),
            _overlap_share(card, metadata),
            card,
        )

    @property
    def bands(self) -> int:
        """The number of bands that the network takes."""
        return self.input.bands or (
            0 if self.completed.normalization is None else len(self.completed.normalization.mean)
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that must still be given."""
        legend = ["legend"] if self.completed.legend is None else []
        normalization = ["mean", "std"] if self.completed.normalization is None else []
        return (*legend, *normalization)

    @property
    def missing(self) -> str:
        """The same in words; empty if nothing is missing."""
        verb = "was" if self.bands == 1 else "were"
        required = (
            (self.completed.legend, "what its classes are"),
            (self.completed.normalization, f"how its {numbered(self.bands, 'band')} {verb} normalized"),
        )
        return " nor ".join(words for value, words in required if value is None)

    def try_out(self) -> Trial:
        """Run the network on a little noise; ModelError if it cannot be run."""
        completed = self.completed
        return try_out(
            self.file,
            self.input,
            self.bands,
            window_px=completed.window_px,
            classes=None if completed.legend is None else len(completed.output_codes or completed.legend.codes),
            output=completed.network_output,
            activation=completed.activation,
        )

    def bundle(self) -> ModelBundle:
        """Return the model. ModelError or UsageError if its properties do not fit together."""
        trial, completed = self.try_out(), self.completed
        if completed.legend is None or completed.normalization is None:
            raise ValueError(f"{self.file.path} does not say {self.missing}")
        legend = self._with_background(completed.legend, trial)
        legend, codes = _output_classes(self.file.path, legend, completed.output_codes, trial)
        window_px = self._window(trial)
        card = ModelCard(
            name=completed.name or self.file.path.stem,
            architecture=ONNX,
            arguments_text=frozen_text(_arguments(self.bands, trial), "arguments"),
            legend=legend,
            output_codes=codes,
            bands=completed.bands or usual_bands(self.bands),
            dtype=completed.dtype or DEFAULT_DTYPE,
            normalization=completed.normalization,
            statistics=completed.statistics,
            gsd_m=completed.gsd_m,
            window_px=window_px,
            overlap_px=self._overlap(window_px, trial),
            provenance_text=self.card.provenance_text if self.card else "{}",
            metrics_text=self.card.metrics_text if self.card else "{}",
        )
        return _bundle(card, self.file, trial)

    def _with_background(self, legend: Legend, trial: Trial) -> Legend:
        """Return the legend, adding a background if the file numbers its classes from 1 and has one channel more."""
        is_from_file = self.given.legend is None and self.card is None
        if not is_from_file or 0 in legend.codes or trial.channels != len(legend) + 1:
            return legend
        return Legend((LandCover(0, BACKGROUND, distinct_color(0)), *legend))

    def _window(self, trial: Trial) -> int:
        """Return the window: the only size, the requested one, or the nearest to the one in the file."""
        if self.given.window_px is not None:
            trial.graph.check_window(str(self.file.path), self.given.window_px, "window_px")
            check_window(self.given.window_px, trial.divisor, "window_px")
        return trial.window_px

    def _overlap(self, window_px: int, trial: Trial) -> int:
        """Return the overlap that is given, else the file's share of the window."""
        if self.completed.overlap_px is not None:
            return self.completed.overlap_px
        return trial.graph.overlap_px(window_px, self.overlap_share)


def _check_dtype(  # noqa: PLR0913, PLR0917 - everything that may state it
    dtype: str, path: Path, given: GivenOnnx, card: ModelCard | None, completed: GivenOnnx, input_spec: OnnxInput
) -> None:
    """Raise UsageError for a given data type that contradicts the file: the type of its input, or its mean and std."""
    check_dtype(dtype)
    if not input_spec.dtype.startswith("float"):
        if not np.can_cast(dtype, input_spec.dtype):
            raise UsageError(f"{path} takes {input_spec.dtype} values, got `dtype={dtype}`; leave it out", "dtype")
        return
    stated = DEFAULT_DTYPE if card is None else card.dtype
    if given.normalization is None and completed.normalization is not None and dtype != stated:
        raise UsageError(
            f"{path} states mean and std for {stated}, got `dtype={dtype}`; leave it out, or also give `mean` and "
            f"`std` in stored units of {dtype}",
            "dtype",
        )


def _overlap_share(card: ModelCard | None, metadata: Deepness | None) -> float:
    """Return the share of a window that overlaps: that of the file, else the usual one."""
    if card is not None:
        return card.overlap_px / card.window_px
    usual = 1 / OVERLAP_SHARE
    return usual if metadata is None or metadata.overlap_share is None else metadata.overlap_share


def _output_index(file: OnnxFile, given: GivenOnnx) -> int:
    """Return the index of the requested output in the file, 0 if none is requested."""
    outputs = [output.name for output in file.model.graph.output]
    return outputs.index(given.network_output) if given.network_output in outputs else 0


def _arguments(bands: int, trial: Trial) -> dict[str, object]:
    return {
        "in_channels": bands,
        "classes": trial.channels,
        "divisor": trial.divisor,
        "activation": trial.graph.activation,
        "network_output": trial.graph.output,
    }


def _bundle(card: ModelCard, file: OnnxFile, trial: Trial) -> ModelBundle:
    digest = files_digest(file.path, file.data_files)
    graph = asdict(replace(trial.graph, notes=(), bytes_a_pixel=0))
    identity = json.dumps([digest, to_mlm(card), graph], sort_keys=True)
    return ModelBundle(
        **{field.name: getattr(card, field.name) for field in fields(ModelCard)},
        weights_path=file.path.resolve(),
        hash=hashlib.sha256(identity.encode()).hexdigest(),
        weights_hash=digest,
        weights_bytes=file.weights_bytes,
        graph=trial.graph,
    )


def _completed(given: GivenOnnx, card: ModelCard | None, metadata: Deepness | None) -> GivenOnnx:
    """Return what the caller states, completed from the file's metadata."""
    if card is not None:
        from_file = _from_card(card, given)
    elif metadata is not None:
        from_file = GivenOnnx(
            legend=None if metadata.names is None else legend_of_names(metadata.names, metadata.first_code),
            normalization=_normalization(metadata.mean, metadata.std),
            gsd_m=metadata.gsd_m,
            window_px=metadata.window_px,
        )
    else:
        from_file = GivenOnnx()
    missing = [field.name for field in fields(GivenOnnx) if getattr(given, field.name) is None]
    return replace(given, **{name: getattr(from_file, name) for name in missing})


def _from_card(card: ModelCard, given: GivenOnnx) -> GivenOnnx:
    """Return what a card in the file states; networks written by geoseg output probabilities."""
    arguments = card.arguments if card.architecture == ONNX else {}
    return GivenOnnx(
        legend=card.legend,
        normalization=card.normalization,
        output_codes=card.output_codes if given.legend is None else None,
        bands=card.bands,
        dtype=card.dtype,
        statistics=card.statistics,
        gsd_m=card.gsd_m,
        window_px=card.window_px,
        overlap_px=card.overlap_px if given.window_px in {None, card.window_px} else None,
        activation=arguments.get("activation", "none"),
        network_output=arguments.get("network_output"),
        name=card.name,
    )


def _with_defaults(completed: GivenOnnx, metadata: Deepness | None, input_spec: OnnxInput, path: Path) -> GivenOnnx:
    """Complete what is known with the usual defaults: networks that take integers get them as stored."""
    count, normalization = input_spec.bands, completed.normalization
    if count is not None and normalization is not None and len(normalization.mean) != count:
        raise UsageError(
            f"{path} takes {numbered(count, 'band')}, got a mean and a std for {len(normalization.mean)}; give one "
            "of each per band",
            "mean",
        )
    takes_integers = not input_spec.dtype.startswith("float")
    dtype = completed.dtype or (
        input_spec.dtype if input_spec.dtype in VALUE_RANGES and takes_integers else _dtype_of(normalization)
    )
    if takes_integers and (count or normalization):
        count = count or len(normalization.mean if normalization else ())
        normalization = Normalization((0.0,) * count, (1.0,) * count, VALUE_RANGES[dtype])
    elif normalization is None and count and metadata is not None and metadata.has_metadata and dtype == DEFAULT_DTYPE:
        normalization = Normalization((0.0,) * count, (VALUE_RANGES[dtype][1],) * count, VALUE_RANGES[dtype])
    return replace(completed, normalization=normalization, dtype=dtype)


def _dtype_of(normalization: Normalization | None) -> str:
    """Return the data type of the imagery, from its value range."""
    if normalization is None:
        return DEFAULT_DTYPE
    ranges = VALUE_RANGES.items()
    return next((name for name, values in ranges if values == normalization.value_range), DEFAULT_DTYPE)


def _normalization(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Normalization | None:
    """Return the normalization from Deepness metadata, of which mean or std may be missing."""
    if mean is None and std is None:
        return None
    mean, std = mean or (0.0,), std or (VALUE_RANGES[DEFAULT_DTYPE][1],)
    count = max(len(mean), len(std))
    return Normalization(_repeated(mean, count), _repeated(std, count))


def _repeated(numbers: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Return one number per band; a single number counts for all bands."""
    return numbers * count if len(numbers) == 1 else numbers


def _for_each_band(normalization: Normalization, bands: int | None) -> Normalization:
    """Return a normalization for each band; a single number in the file counts for all bands, as in Deepness."""
    count = len(normalization.mean) if bands is None else bands
    mean, std = (_repeated(numbers, count) for numbers in (normalization.mean, normalization.std))
    return Normalization(mean, std, normalization.value_range)


def _output_classes(
    path: Path, legend: Legend, codes: tuple[int, ...] | None, trial: Trial
) -> tuple[Legend, tuple[int, ...]]:
    """Return the legend and the class code of each channel, two codes for a network with one channel."""
    class_count = 2 if trial.channels == 1 else trial.channels
    if codes is None and len(legend) == 1 and class_count == 2:
        (only_class,) = legend
        code = 0 if only_class.code else 1
        background = LandCover(code, BACKGROUND, distinct_color(code))
        legend = Legend(tuple(sorted((background, only_class), key=lambda land_cover: land_cover.code)))
        codes = (code, only_class.code)
    codes = legend.codes if codes is None else codes
    if len(codes) != class_count:
        raise UsageError(
            f"{path} gives {numbered(class_count, 'class')}, `legend` has {len(codes)}: {', '.join(legend.names):.80}; "
            f"give a legend of {class_count}",
            "legend",
        )
    return legend, codes
