"""The verb `import_weights`: make a bundle from weights that were trained elsewhere.

Weights about which everything is known are converted once, into geoseg's cache, in a separate process: `import_once`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.atomic import check_free, make_folders, probe_writable, same_file
from geoseg.errors import (
    GeosegError,
    ModelError,
    OutputError,
    UsageError,
    blamed_on,
    enumerated,
    listed,
    numbered,
    one_line,
)
from geoseg.given import plain_arguments
from geoseg.legend import GivenLegend, Legend, given_legend
from geoseg.machine import end_process, is_python, python_command, python_environment
from geoseg.model.bundle import (
    DEFAULT_DTYPE,
    DEFAULT_TEMPERATURE,
    DEFAULT_WINDOW_PX,
    ONNX,
    VALUE_RANGES,
    ModelBundle,
    ModelCard,
    Normalization,
    architecture_named,
    check_encoder_name,
    default_overlap,
    file_hash,
    frozen_text,
    located,
    may_have_one_size,
    timm_name_of,
    usual_bands,
)
from geoseg.model.engines import cache_folder
from geoseg.model.weights.presets import Preset, preset_named, preset_of
from geoseg.model.weights.weights_file import WeightsFile, check_names, opened_tensors, read_weights_file
from geoseg.progress import announcer
from geoseg.typed import as_path
from geoseg.version import VERSION

if TYPE_CHECKING:
    import torch

    from geoseg.model.weights.recognition import Recognized


_SHOWN = 3
"""Number of tensor names in a message."""
_COUNTER = "num_batches_tracked"


@plain_arguments()
def import_weights(  # noqa: PLR0913 - a model has this many properties, and a weights file states few of them
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    preset: str | None = None,
    architecture: str | None = None,
    encoder: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    legend: GivenLegend | None = None,
    normalization: Normalization | None = None,
    output_codes: tuple[int, ...] | None = None,
    bands: tuple[str, ...] | None = None,
    dtype: str | None = None,
    gsd_m: float | None = None,
    window_px: int | None = None,
    overlap_px: int | None = None,
    temperature: float = DEFAULT_TEMPERATURE,
    name: str | None = None,
    mkdir: bool = False,
    overwrite: bool = False,
    announce: Callable[[str], None] | None = None,
) -> ModelBundle:
    """Make a bundle from weights that were trained elsewhere. Nothing in the file is executed.

    Parameters
    ----------
    weights : path
        A state dict or a Lightning checkpoint written by `torch.save` (.pth, .pt, .ckpt, .bin), a plain
        `.safetensors` file, or a folder written by smp's `save_pretrained`. The tensors may be in nested dicts
        (`state_dict`) and have any prefix (`model.`, `module.`). `hf://owner/name/file` is one on the Hugging Face
        hub.
    out : path
        The `.safetensors` bundle to write.
    preset : str, optional
        The name of weights whose classes, normalization and pixel size are known: flair-inc-rgb, ftw-3class, ...
        By default recognized by the file's name and tensors; all other arguments override it.
    architecture, encoder, arguments : optional
        The network, as for `save_bundle`. By default recognized by the names and shapes of the tensors.
    legend : path, dict of names by code or Legend, optional
        The classes; the output channels stand for their codes in ascending order.
    normalization : Normalization, optional
        Mean and standard deviation in stored units: for uint8, 255 times those for values from 0 to 1.
    output_codes : tuple of int, optional
        The class code of each output channel, if the legend has more codes or another order.
    bands, dtype, gsd_m
        Of the training imagery: band names, data type, meters per pixel.
    window_px, overlap_px : int, optional
        Default: 512, or the one size that the network accepts; a quarter of the window.
    temperature : float, optional
        Divides the logits.
    name : str, optional
        Default: the file's name without its suffix.
    mkdir, overwrite : bool, optional
        Make missing folders; replace an existing file.
    announce : callable, optional
        Called with lines about the network that was recognized, what was left out, and what was assumed.

    Returns
    -------
    ModelBundle
        The bundle, read back from the file.

    Raises
    ------
    UsageError
        Without a legend and a normalization, or if the arguments do not fit together.
    ModelError
        If the file holds anything that could be executed, is cut short, or fits no network that geoseg has.
    OutputError
        If the file exists or cannot be written.

    Examples
    --------
    >>> geoseg.import_weights(  # doctest: +SKIP
    ...     "FLAIR-INC_rgbi_15cl_resnet34-unet_weights.pth", "flair.safetensors"
    ... )

    """
    target = _target(out, mkdir=mkdir, overwrite=overwrite)
    source, title, hub = located(as_path("weights", weights))
    file = read_weights_file(source)
    if target.exists() and same_file(target, file.path):
        raise OutputError(f"{target} is the weights file itself; choose another `out`", "out")
    check_names(file.shapes, str(file.path))
    known = preset_of(file.path, file.shapes) if preset is None else preset_named(preset)
    classes, normalization = _classes_and_normalization(file, known, legend, normalization)
    codes = classes.codes if output_codes is None else tuple(output_codes)
    _check_classes(file, codes, known)
    _check_names(architecture, encoder, arguments)
    _check_bands(bands, len(normalization.mean))
    preferred_px = window_px if window_px is not None or known is None else known.window_px
    # torch is not loaded yet: check everything except the network, with a placeholder that accepts any window
    placeholder = {"activation": "none", "classes": len(codes), "divisor": 1, "in_channels": len(normalization.mean)}
    card = ModelCard(
        name=name or title,
        architecture=ONNX,
        arguments_text=frozen_text(placeholder, "arguments"),
        legend=classes,
        output_codes=codes,
        bands=_bands(bands, known, len(normalization.mean)),
        dtype=dtype or (known.dtype if known else DEFAULT_DTYPE),
        normalization=normalization,
        gsd_m=gsd_m if gsd_m is not None or known is None else known.gsd_m,
        window_px=DEFAULT_WINDOW_PX if preferred_px is None else preferred_px,
        overlap_px=0 if overlap_px is None else overlap_px,
        temperature=temperature,
    )
    network = _recognized(file, known, architecture, encoder, arguments)
    window_px = _window(network, preferred_px, is_required=window_px is not None)
    origin = {"file": file.path.name, "sha256": file_hash(file.path), "left_out": len(network.unused)}
    published = known.provenance if known else {}
    card = replace(
        card,
        architecture=network.architecture,
        arguments_text=frozen_text(network.arguments, "arguments"),
        bands=_bands(bands, known, network.arguments["in_channels"]),
        window_px=window_px,
        overlap_px=default_overlap(window_px) if overlap_px is None else overlap_px,
        provenance_text=frozen_text({"imported": origin | published} | hub, "provenance"),
    )
    only_px = window_px if preferred_px is None and window_px != DEFAULT_WINDOW_PX else None
    for line in _lines(file, known, network, only_px):
        announcer(announce)(line)
    if mkdir:
        make_folders(target)
    return _write(target, file, network, card)


def _target(out: str | os.PathLike[str], *, mkdir: bool, overwrite: bool) -> Path:
    path = probe_writable(out, mkdir=mkdir)
    if path.suffix.lower() != ".safetensors":
        raise UsageError(f"`out` must be the name of a .safetensors file, got {os.fspath(out)!r:.80}", "out")
    check_free(path, "out", overwrite=overwrite)
    return path


def _classes_and_normalization(
    file: WeightsFile, preset: Preset | None, legend: GivenLegend | None, normalization: Normalization | None
) -> tuple[Legend, Normalization]:
    """Return legend and normalization, as given or from the preset. UsageError if one is missing."""
    classes = None if legend is None else given_legend(legend)
    if preset is not None:
        classes = classes or preset.legend
        normalization = normalization or Normalization(preset.mean, preset.std, VALUE_RANGES[preset.dtype])
    if classes is None or normalization is None:
        raise UsageError(_missing_message(file, classes is None, normalization is None))
    return classes, normalization


def _missing_message(file: WeightsFile, no_legend: bool, no_normalization: bool) -> str:  # noqa: FBT001
    """Describe in one line what a weights file does not state."""
    channels = _channels(file)
    classes = "what its classes are" if channels is None else f"what its {max(channels, 2)} classes are"
    missing = [classes] * no_legend + ["how its bands were normalized"] * no_normalization
    parameters = ["`legend`"] * no_legend + ["`mean`", "`std`"] * no_normalization
    return f"{file.path} does not say {' nor '.join(missing)}; give {enumerated(parameters)}, or the name of a `preset`"


def _channels(file: WeightsFile) -> int | None:
    """Return the number of output channels, if the names of tensors reveal it."""
    counts = {
        shape[0]
        for name, shape in file.shapes.items()
        if name.endswith(("segmentation_head.0.bias", "segmentation_head.head.4.bias")) and len(shape) == 1
    }
    return counts.pop() if len(counts) == 1 else None


def _check_classes(file: WeightsFile, codes: tuple[int, ...], preset: Preset | None) -> None:
    """Raise UsageError if classes and output channels differ in number, before torch is loaded."""
    channels = _channels(file)
    if channels is None or len(codes) == max(channels, 2):
        return
    origin = f" of the preset {preset.name}" if preset and codes == preset.legend.codes else ""
    expected = "two classes, the background first," if channels == 1 else f"{channels} classes"
    raise UsageError(
        f"{file.path} has {numbered(channels, 'output channel')}, but the `legend`{origin} has "
        f"{numbered(len(codes), 'class')}; give {expected} in the order of the channels",
        "legend",
    )


def _check_names(architecture: str | None, encoder: str | None, arguments: Mapping[str, Any] | None) -> None:
    """Raise an error for a network that cannot exist, whatever the tensors are, before torch is loaded."""
    by_parameter = {"encoder": {} if encoder is None else {"encoder_name": encoder}, "arguments": dict(arguments or {})}
    if architecture is not None:
        with blamed_on("architecture"):
            kind = architecture_named(architecture)
        for parameter, given in by_parameter.items():
            with blamed_on(parameter):
                kind.check_given(given)
    for parameter, given in by_parameter.items():
        if "encoder_name" in given:
            with blamed_on(parameter):
                check_encoder_name(str(given["encoder_name"]))


def _check_bands(bands: tuple[str, ...] | None, count: int) -> None:
    """Raise UsageError if the numbers of bands and means differ."""
    if bands is not None and len(bands) != count:
        raise UsageError(
            f"`bands` names {numbered(len(bands), 'band')}, `mean` has {numbered(count, 'number')}; each band needs "
            "one",
            "bands",
        )


def _recognized(
    file: WeightsFile,
    preset: Preset | None,
    architecture: str | None,
    encoder: str | None,
    arguments: Mapping[str, Any] | None,
) -> Recognized:
    from geoseg.model.weights.recognition import Hints, recognize  # noqa: PLC0415 - torch, only after all other checks

    known_arguments = dict(arguments or {})
    encoder = known_arguments.pop("encoder_name", None) if encoder is None else encoder
    if file.config is not None:
        file_architecture, file_arguments = file.config
        file_arguments = dict(file_arguments)
        file_encoder = file_arguments.pop("encoder_name", None)
        architecture, encoder = architecture or file_architecture, encoder or file_encoder
        known_arguments = file_arguments | known_arguments
    optional_arguments, prefixes = (preset.arguments, preset.prefixes) if preset else ({}, {})
    words = tuple(part for text in file.words for part in (text, *text.replace("-", " ").replace("+", " ").split()))
    hints = Hints(architecture, encoder, known_arguments, optional_arguments, prefixes, words)
    return recognize(file.shapes, hints, str(file.path))


def _window(network: Recognized, window_px: int | None, *, is_required: bool) -> int:
    """Return the window: the requested one, else the preset's if the network accepts it, else the network's default."""
    if not may_have_one_size(network.arguments):
        return DEFAULT_WINDOW_PX if window_px is None else window_px
    from geoseg.model.network import check_network_accepts, usual_window_px, window_fault  # noqa: PLC0415 - torch, as above

    if is_required and window_px is not None:
        check_network_accepts(network.architecture, network.arguments, window_px, "window_px")
        return window_px
    if window_px is not None and window_fault(network.architecture, network.arguments, window_px) is None:
        return window_px
    return usual_window_px(network.architecture, network.arguments)


def _bands(given: tuple[str, ...] | None, preset: Preset | None, count: int) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    if preset is not None and len(preset.bands) == count:
        return preset.bands
    return usual_bands(count)


def _lines(file: WeightsFile, preset: Preset | None, network: Recognized, only_px: int | None) -> list[str]:
    """Describe the recognized network and what was assumed, in lines for people."""
    lines = [f"{file.path.name}: {network}"]
    if preset is not None:
        lines.append(f"{preset.title} ({preset.license}; {preset.url})")
    if network.unused:
        unused = listed((one_line(name, 40) for name in network.unused), _SHOWN)
        lines.append(f"left out, not part of the network: {unused}")
    if file.copies:
        first = f"torch.save(torch.load({file.path.name!r}, weights_only=False){file.copies[0]}, 'weights.pth')"
        lines.append(
            f"left out, another copy of the weights: {listed(file.copies, _SHOWN)}; to use it, save it alone if you "
            f"trust the file: {first}"
        )
    if network.assumed and preset is None:
        values = {name: network.arguments.get(name, "at its default") for name in network.assumed}
        assumed = ", ".join(f"{name} {value}" for name, value in values.items())
        lines.append(f"not stated by the weights, so assumed: {assumed}; `arguments` changes them")
    encoder = str(network.arguments.get("encoder_name"))
    if network.architecture in _DILATED and str(timm_name_of(encoder)).startswith("tf_mobilenetv3"):
        lines.append(
            "if smp before 0.5 trained it as timm-mobilenetv3, its scores differ here; then export the network with "
            "that version to ONNX and use that"
        )
    if only_px is not None and "img_size" not in network.arguments:
        lines.append(
            f"not stated by the weights, so left at the default: windows of {only_px} px; if it was trained on others, "
            "give its img_size in `arguments`"
        )
    return lines


_DILATED = ("DeepLabV3", "DeepLabV3Plus", "PAN")
"""Architectures that dilate the last convolutions of the encoder."""


def _write(target: Path, file: WeightsFile, network: Recognized, card: ModelCard) -> ModelBundle:
    """Write the bundle, checking that each tensor is finite."""
    import torch  # noqa: PLC0415 - as above

    from geoseg.model.network import check_finite  # noqa: PLC0415 - as above
    from geoseg.model.save import write_bundle  # noqa: PLC0415 - as above

    def checked(name: str, tensor: torch.Tensor) -> torch.Tensor:
        check_finite({name: tensor}, file.path, "copy or download it again")
        if name.endswith(_COUNTER):  # in the mean of several networks, a fraction
            return tensor.long()
        return tensor.float() if tensor.dtype == torch.float64 else tensor

    with opened_tensors(file, network.names) as tensors:
        return write_bundle(target, ChainMap(_missing_tensors(network), tensors), card, checked)  # type: ignore[arg-type]


def _missing_tensors(network: Recognized) -> dict[str, torch.Tensor]:
    """Return the tensors that the file lacks or has in another shape: counters, and tensors that are never read."""
    import torch  # noqa: PLC0415 - as above

    from geoseg.model.network import build, parameter_shapes  # noqa: PLC0415 - as above

    shapes = parameter_shapes(network.architecture, network.arguments)
    missing = [name for name in shapes if name not in network.names]
    if all(name.endswith(_COUNTER) or "fpn_stages" in name for name in missing):
        dtypes = {True: torch.int64, False: torch.float32}
        return {name: torch.zeros(shapes[name], dtype=dtypes[name.endswith(_COUNTER)]) for name in missing}
    state = build(network.architecture, network.arguments).state_dict()
    return {name: state[name] for name in missing}


def import_once(weights: Path) -> Path:
    """Return the bundle for a weights file with a known preset, made now unless it is cached.

    torch is loaded in another process, because it never returns its memory. GeosegError as in `import_weights`.
    """
    bundle = cache_folder() / "imported" / f"{file_hash(weights)[:32]}-{VERSION}" / f"{weights.stem}.safetensors"
    if bundle.is_file():
        return bundle
    if not is_python():  # Python is embedded in another program, such as QGIS
        _import(weights, bundle)
        return bundle
    command = python_command("geoseg.model.weights.import_weights", str(weights), str(bundle))
    environment = python_environment() | {"PYTHONIOENCODING": "utf-8"}
    process = subprocess.run(  # noqa: S603 - our own program
        command, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        message = one_line(lines[-1], 600) if lines else f"the import of {weights} ended with {process.returncode}"
        if process.returncode == UsageError.exit_code:
            raise UsageError(f"{message} to geoseg import")
        raise ModelError(message)
    return bundle


def _import(weights: Path, bundle: Path) -> None:
    import_weights(weights, bundle, mkdir=True, overwrite=True)


def main(arguments: list[str]) -> int:
    """Run the import with the command-line arguments WEIGHTS BUNDLE."""
    try:
        _import(Path(arguments[0]), Path(arguments[1]))
    except GeosegError as fault:
        sys.stderr.write(f"{one_line(fault, 600)}\n")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
