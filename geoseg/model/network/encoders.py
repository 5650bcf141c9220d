"""Encoders by name, and their pretrained weights: fetched, or from a file with anyone's names; nothing in it is run.

Names are those of smp's own list, and after 'tu-' those of timm's; looking up a name never calls home. For a file that
does not name its encoder, a fingerprint of its tensors tells which encoders to try first.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants

from geoseg.errors import ModelError, one_line
from geoseg.model.bundle import (
    USUAL_WEIGHTS,
    file_hash,
    is_weights_file,
    quiet_logs,
    read_header,
    timm_name_of,
    unknown_encoder,
    unknown_encoder_weights,
    weights_beginning,
    why_offline,
)

Scaling = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of red, green and blue, each from 0 to 1."""
IMAGENET: Scaling = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The scaling of nearly all weights (https://pytorch.org/vision/stable/models.html)."""
HALF: Scaling = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""The scaling of the Inception family: values from -1 to 1."""
_DPN: Scaling = (124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3
_HALVED = ("inception", "xception", "timm-tf_efficientnet_lite")
_TABLE = Path(__file__).with_name("encoders.txt")
"""Written by tools/encoder_fingerprints.py: each line holds a fingerprint and the encoders that have it."""
_COUNTER = "num_batches_tracked"
COMPUTED = (_COUNTER, "relative_position_index", "attn_mask", "total_ops", "total_params")
"""Suffixes of tensors that some versions save with the weights and others compute."""
WRAPPER = re.compile(r"(?<![^.])(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
"""Inserted by torch into the names of modules that were compiled, checkpointed or sharded."""

_CLASSIFIER = re.compile(r"^(?:model\.)?(?:_fc|fc|classifier|head|last_linear|last_conv|num_features)\b")
"""Parts of the pretrained classifiers, saved by some versions and never used."""


def check_encoder(name: str) -> None:
    """Raise ModelError for an encoder that neither smp nor timm knows."""
    if name in smp.encoders.encoders:
        return
    timm_name = timm_name_of(name)
    is_known = timm.models.is_model_pretrained if "." in name else timm.is_model  # a dot separates name and weights tag
    if timm_name is not None and is_known(timm_name):
        return
    raise unknown_encoder(name, smp.encoders.encoders, timm.list_models())


def encoder_weights_of(name: str) -> tuple[str, ...]:
    """Return the names of the weights that can be fetched for an encoder: imagenet, noisy-student, ssl, ...

    For timm's encoders these are its tags, such as a1_in1k; "imagenet" means the one that timm uses by default.
    Empty if there are none. ModelError for an unknown encoder.
    """
    check_encoder(name)
    timm_name = timm_name_of(name)
    if timm_name is None:
        return tuple(smp.encoders.encoders[name]["pretrained_settings"])
    if not timm.models.is_model_pretrained(timm_name):
        return ()
    if "." in timm_name:
        return (USUAL_WEIGHTS,)
    tags = (tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{timm_name}.*"))
    return (USUAL_WEIGHTS, *(tag for tag in tags if tag))


def fetchable(name: str, weights: str | None) -> tuple[str, str | bool | None]:
    """Return encoder and weights as smp expects them; ModelError, listing the known weights, for unknown ones."""
    if weights is None:
        return name, None
    available = encoder_weights_of(name)
    if weights not in available:
        raise unknown_encoder_weights(name, weights, available)
    if timm_name_of(name) is None:
        return name, weights
    return name if weights == USUAL_WEIGHTS else f"{name}.{weights}", True


def scaling_of(name: str, weights: str | None) -> Scaling:
    """Return the image scaling that an encoder's weights were pretrained with. ModelError as for `fetchable`.

    If `weights` is None, only the encoder is known, and its usual weights are assumed.

    timm's configurations include it. smp fetches it along with the weights since 0.5; these values are from smp 0.4.
    """
    encoder, _ = fetchable(name, weights)
    timm_name = timm_name_of(encoder)
    if timm_name is not None:
        pretrained = timm.get_pretrained_cfg(timm_name)
        return (pretrained.mean, pretrained.std) if pretrained is not None else IMAGENET
    if weights == "advprop" or name.startswith(_HALVED):
        return HALF
    return _DPN if name.startswith("dpn") else IMAGENET


@contextlib.contextmanager
def fetching() -> Iterator[None]:
    """Allow fetching weights inside; if their host cannot be resolved, use only weights cached on this machine.

    The library itself would try six times in 23 s, logging each attempt. An OSError says what is missing.
    """
    before, reason = constants.HF_HUB_OFFLINE, why_offline()
    constants.HF_HUB_OFFLINE = reason is not None
    try:
        with quiet_logs(logging.CRITICAL, "huggingface_hub", "timm"):
            yield
    except OSError:  # the library's error for a file that is not available is a subclass
        if reason is not None:
            raise OSError(f"they are not cached on this machine and {reason}") from None
        raise
    finally:
        constants.HF_HUB_OFFLINE = before


Weights = Mapping[str, torch.Tensor]
_KINDS = ".safetensors, or .pth, .pt or .bin as torch.save writes them"
_NESTED = 3
"""How deep nested dicts are searched: {"state_dict": {"model": ...}}."""


def recorded_weights(weights: str | None) -> str | None:
    """Return encoder weights as recorded in provenance: a file by its name and hash, without its folder."""
    if weights is None or not is_weights_file(weights):
        return weights
    return f"{Path(weights).name} sha256:{file_hash(Path(weights))}"


def load_encoder_weights(encoder: torch.nn.Module, name: str, path: Path, bands: int) -> None:
    """Copy the weights in a file into an encoder with `bands` bands; on the meta device, only check that they fit.

    Names may be timm's, torchvision's or smp's, with any prefix (`module.`, `encoder.model.`), in nested dicts
    (`state_dict`). Classifier heads and pooling are ignored. The first convolution is adapted to the bands as in smp
    and timm. ModelError if the file cannot be read, holds more than tensors, or is for another encoder: the message
    names the first tensor that differs.
    """
    expected = encoder.state_dict()
    stored, places = _best_match(_read(path), expected, name, path)
    adapted = {key: _adapted(stored[place], expected[key], bands) for key, place in places.items()}
    fault = _first_mismatch(expected, adapted) or _first_extra(expected, stored, places, name)
    if fault:
        raise ModelError(f"{path} is not of the encoder {one_line(name, 60)}: {fault}; give weights of {name}")
    check_finite(adapted, path, "copy or download it again")
    with torch.no_grad():
        for key, tensor in adapted.items():
            expected[key].copy_(tensor)


def _read(path: Path) -> Any:  # noqa: ANN401 - whatever torch.save was given
    """Return the contents of a file."""
    first = weights_beginning(path)
    if first[8:9] == b"{":
        read_header(path)
        return safetensors.torch.load_file(path)
    if first.startswith((b"PK\x03\x04", b"\x80")):
        return _unpickled(path)
    raise ModelError(f"{path} holds no weights{'' if first else ', it is empty'}; expected {_KINDS}")


def _unpickled(path: Path) -> Any:  # noqa: ANN401 - whatever torch.save was given
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - for damaged files torch raises all kinds of errors
        text = str(fault)
        code = re.search(r"GLOBAL (\S+)", text)
        if code or (isinstance(fault, pickle.UnpicklingError) and "nsupported" in text) or "TorchScript" in text:
            class_note = f" ({one_line(code[1], 60)})" if code else ""
            raise ModelError(
                f"{path} holds more than tensors{class_note}, and loading it could run code; if you trust the file, "
                "save only the tensors: torch.save(network.state_dict(), path)"
            ) from None
        raise ModelError(f"{path} is cut short or damaged, or not a weights file; expected {_KINDS}") from None


_EPSILON = 1e-5
"""The least that batch normalization usually adds to a variance before it takes the root."""


def check_finite(tensors: Mapping[str, torch.Tensor], path: Path, way_out: str) -> None:
    """Raise ModelError if a tensor of a file holds NaN or infinity, or a variance whose root would be NaN."""
    for name, tensor in tensors.items():
        is_finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
        if not is_finite or (name.endswith("running_var") and bool((tensor <= -_EPSILON).any())):
            fault = "negative variances" if is_finite else "weights that are not finite"
            raise ModelError(f"{path} holds {fault}, in {one_line(name, 60)}; {way_out}")


def _best_match(content: object, expected: Weights, name: str, path: Path) -> tuple[Weights, dict[str, str]]:
    """Return the dict that matches the most of the encoder's tensor names, and for each name the one in the dict."""
    candidates = list(_dicts(content, _NESTED))
    if not candidates:
        raise ModelError(f"{path} holds no named tensors; expected a state dict, in {_KINDS}")
    best, places = max(
        ((candidate, _names_in_file(candidate, expected)) for candidate in candidates), key=lambda pair: len(pair[1])
    )
    if not places:
        stored_name, expected_name = one_line(next(iter(best)), 60), next(iter(expected))
        raise ModelError(
            f"{path} is not of the encoder {one_line(name, 60)}: its tensors have other names ({stored_name}, ...; "
            f"expected {expected_name}, ...); give weights as timm, torchvision or smp name them"
        )
    return best, places


def _dicts(value: object, depth: int) -> Iterator[Weights]:
    """Yield every dict that contains tensors, including those nested in dicts and lists."""
    if isinstance(value, Mapping):
        tensors = {WRAPPER.sub("", str(key)): item for key, item in value.items() if isinstance(item, torch.Tensor)}
        if tensors:
            yield tensors
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for item in inner if depth else ():
        yield from _dicts(item, depth - 1)


def _names_in_file(stored: Weights, expected: Weights) -> dict[str, str]:
    """Map names of encoder tensors to their names in a dict, which have the prefix that matches most of them.

    timm joins names with underscores in feature networks (`stages_0.blocks`), so dots and underscores count as equal.
    """
    wrapper = _wrapper(expected)
    plain_expected = {plain_name(key.removeprefix(wrapper)): key.removeprefix(wrapper) for key in expected}
    plain_stored = {plain_name(key): key for key in stored}
    starts = ((key, start) for key in plain_stored for start in (0, *(match.end() for match in re.finditer("_", key))))
    votes = Counter(key[:start] for key, start in starts if key[start:] in plain_expected)
    if not votes:
        return {}
    prefix = max(votes, key=lambda text: (votes[text], -len(text)))
    return {
        wrapper + key: plain_stored[prefix + plain]
        for plain, key in plain_expected.items()
        if prefix + plain in plain_stored
    }


def _wrapper(expected: Weights) -> str:
    """Return the prefix that smp adds to timm's names: `model.`, once or more."""
    wrapper = ""
    while all(key.startswith(f"{wrapper}model.") for key in expected):
        wrapper += "model."
    return wrapper


def _adapted(tensor: torch.Tensor, expected: torch.Tensor, bands: int) -> torch.Tensor:
    """Adapt a first convolution (out, band, row, col) to the number of bands, by smp's rule; return others unchanged.

    A single band gets the sum of all; other numbers get them in turn, scaled to keep the sum.
    """
    shape, target_shape = tuple(tensor.shape), tuple(expected.shape)
    is_first = (
        len(shape) == len(target_shape) == 4
        and target_shape[1] == bands
        and shape[1]
        and shape[:1] + shape[2:] == (target_shape[:1] + target_shape[2:])
    )
    if not is_first or shape[1] == bands:
        return tensor
    if bands == 1:
        return tensor.sum(1, keepdim=True)
    return tensor[:, [band % shape[1] for band in range(bands)]] * (shape[1] / bands)


def _first_mismatch(expected: Weights, adapted: Weights) -> str | None:
    """Describe the first tensor that a file lacks or has in another shape."""
    lacking = [key for key in expected if key not in adapted and not key.endswith(_COUNTER)]
    for key, tensor in expected.items():
        if key in lacking:
            return f"it lacks {key}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else "")
        if key in adapted and adapted[key].shape != tensor.shape:
            return f"{key} is {tuple(adapted[key].shape)}, expected {tuple(tensor.shape)}"
    return None


def _first_extra(expected: Weights, stored: Weights, places: Mapping[str, str], name: str) -> str | None:
    """Describe the first tensor in one of the encoder's parts that the encoder lacks: the file is for a deeper one."""
    key, place = next(iter(places.items()))
    wrapper = _wrapper(expected)
    prefix = place[: len(place) - len(key.removeprefix(wrapper))]
    parts = {_outermost_part(tensor_name.removeprefix(wrapper)) for tensor_name in expected}
    accounted = set(places.values()) | {prefix + tensor_name for tensor_name in _full_network_names(name)}
    for tensor_name in stored:
        plain = tensor_name.removeprefix(prefix)
        if (
            tensor_name.startswith(prefix)
            and tensor_name not in accounted
            and _outermost_part(plain) in parts
            and not tensor_name.endswith(COMPUTED)
        ):
            return f"it has {one_line(plain, 60)} too"
    return None


def _outermost_part(key: str) -> str:
    """Return the outermost part of a name, without timm's number: stages for stages_0.blocks.1.weight."""
    return re.sub(r"_\d+$", "", key.partition(".")[0])


def _full_network_names(name: str) -> list[str]:
    """Return the tensor names of timm's whole network, if the encoder is part of one."""
    timm_name = timm_name_of(name)
    if timm_name is None:
        return []
    with torch.device("meta"):
        return list(timm.create_model(timm_name, pretrained=False).state_dict())


def is_classifier(name: str) -> bool:
    """Return whether an encoder's tensor belongs to the classifier it was pretrained as."""
    return _CLASSIFIER.match(name) is not None


def encoder_fingerprint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return a fingerprint of an encoder's tensors, the same for any number of bands.

    It hashes each tensor's name, with dots and underscores equal (timm changed them), and the length of its first axis:
    bands are on the second axis. Tables of relative positions depend on the window size and are left out.
    """
    lines = sorted(
        f"{plain_name(name)} {shape[0] if shape else ''}"
        for name, shape in shapes.items()
        if not name.endswith((*COMPUTED, "relative_position_bias_table"))
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def plain_name(name: str) -> str:
    """Return a tensor's name with underscores instead of dots."""
    return name.replace(".", "_")


def encoders_like(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Return the encoders whose tensors have these names and widths, with or without `model.`; empty if unknown."""
    table = _table()
    wrapped = {f"model.{name}": shape for name, shape in shapes.items()}
    return table.get(encoder_fingerprint(shapes)) or table.get(encoder_fingerprint(wrapped)) or ()


@functools.cache
def _table() -> dict[str, tuple[str, ...]]:
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    return {line.split()[0]: tuple(line.split()[1:]) for line in lines}
