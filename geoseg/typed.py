"""Conversion of values to plain types, explicitly or by annotations: fields of dataclasses, arguments of methods.

Numbers of numpy, lists, arrays and tensors are accepted for what they mean; anything else raises a UsageError that
names the field or the argument.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from numbers import Real
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from geoseg.errors import UsageError, one_line

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Value = TypeVar("_Value")
_LONGEST_VALUE = 60
_TOO_BIG = 10**18
_PATHS = "paths"
_UNCHECKED = {"Aoi", "LayerChoice"}
"""Names of unions that exist only for type checkers; their values are checked where they are used."""
_SCENES = ("Scene", "DatasetReader", "DataArray")
"""Types of a SceneLike, next to a path; the union exists only for type checkers."""
_VARIADIC = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD


def integer(name: str, value: object) -> int:
    """Return an integer from an int, a numpy number, 256.0; UsageError for others, True, and more than 18 digits."""
    plain: Any = as_scalar(value)
    if not _is_number(plain) or plain != plain // 1:
        raise refusal(name, "a whole number", plain)
    if not -_TOO_BIG < plain < _TOO_BIG:
        raise refusal(name, "a whole number of at most 18 digits", plain)  # the limit of numpy, GDAL and hardware
    return int(plain)


def number(name: str, value: object) -> float:
    """Return a number as a float; UsageError for anything else, including True."""
    plain: Any = as_scalar(value)
    if not _is_number(plain):
        raise refusal(name, "a number", plain)
    try:
        return float(plain)
    except OverflowError:
        raise refusal(name, "a number that a float can hold", plain) from None


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def flag(name: str, value: object) -> bool:
    """Return True or False, also from numpy; UsageError for anything else: the text `no` would count as true."""
    value = as_scalar(value)
    if isinstance(value, bool):
        return value
    raise refusal(name, "True or False", value)


def text(name: str, value: object) -> str:
    """Return a string, also from numpy; UsageError for anything else."""
    if isinstance(value, str):
        return str(value)
    raise refusal(name, "a string", value)


def numbers(name: str, value: object, expected: str = "a list of numbers") -> tuple[float, ...]:
    """Return the numbers in a list, tuple or array; UsageError for anything else."""
    values = as_list(value)
    if values is None:
        raise refusal(name, expected, value)
    return tuple(number(name, item) for item in values)


def integers(name: str, value: object) -> tuple[int, ...]:
    """Return the integers in a list, tuple or array; UsageError for anything else."""
    values = as_list(value)
    if values is None:
        raise refusal(name, "a list of whole numbers", value)
    return tuple(integer(name, item) for item in values)


def as_path(name: str, value: object) -> str | os.PathLike[str]:
    """Return a path unchanged, bytes as text; UsageError for anything else, and for text that cannot be a path.

    `~/` is the user's home: shells do not expand it in quotes or in `--out=~/map.tif`, and `mkdir` would create a
    folder of that name.
    """
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    if isinstance(value, str) and value.startswith("~/"):
        value = os.path.expanduser(value)  # noqa: PTH111 - a path, or any other name that GDAL accepts
    if isinstance(value, str) and not value.strip():  # from an unset variable; it would mean the current folder
        raise UsageError(f"`{name}` is empty; give a path", name)
    if isinstance(value, str | os.PathLike):
        if not _can_be_path(value):
            raise refusal(name, "a path without null bytes or lone surrogates", value)
        return value
    hint = "; give its name" if hasattr(value, "crs") and isinstance(getattr(value, "name", None), str) else ""
    raise refusal(name, "a path", value, hint)


def _can_be_path(value: str | os.PathLike[str]) -> bool:
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def as_scalar(value: object) -> object:
    """Return the Python number of a numpy or torch number or one-element array; anything else unchanged."""
    if isinstance(value, Decimal):
        return float(value)
    item = getattr(value, "item", None)
    if item is None or isinstance(value, str):
        return value
    try:
        return item()
    except (TypeError, ValueError, RuntimeError):  # an array of several
        return value


def as_list(value: object) -> list[Any] | None:
    """Return the elements of a list, tuple, array or table column; None for values without an order."""
    tolist = getattr(value, "tolist", None)
    if tolist is not None and not isinstance(value, type):
        value = tolist()
    if isinstance(value, str | bytes | Mapping | set | frozenset | type) or not isinstance(value, Iterable):
        return None
    return list(value)


def refusal(name: str, expected: str, value: object, hint: str = "") -> UsageError:
    """Return the error for an argument of the wrong type or with an invalid value."""
    kind = "" if value is None or isinstance(value, str | Real | list | tuple | dict) else f" ({type(value).__name__})"
    return UsageError(f"`{name}` must be {expected}, got {_shown(value)}{kind}{hint}", name)


def _shown(value: object) -> str:
    try:
        return one_line(repr(value), _LONGEST_VALUE)
    except ValueError:  # Python does not print numbers of more than 4300 digits
        return "a number with thousands of digits"


def checked(thing: _Value) -> _Value:
    """Decorate a dataclass or a function so that its fields or arguments are converted as annotated.

    On a class, put it below `@dataclass`; it runs before `__post_init__`. A type that is imported only for type
    checkers is recognized by the names of the value's types.
    """
    return _checked_fields(thing) if isinstance(thing, type) else _checked_call(thing)  # type: ignore[return-value,arg-type] # as it came


def _checked_fields(kind: type) -> type:
    original: Callable[[Any], None] | None = getattr(kind, "__post_init__", None)

    def __post_init__(self: Any) -> None:  # noqa: ANN401, N807 - of any class
        for name, expected in _field_types(type(self)).items():  # type: ignore[arg-type] # types have a hash
            object.__setattr__(self, name, expected.of(name, getattr(self, name)))
        if original is not None:
            original(self)

    kind.__post_init__ = __post_init__  # type: ignore[attr-defined] # the hook that dataclasses offer for checks
    return kind


def _checked_call(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def wrapper(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        expected = argument_types(function)
        positional = [
            expected[name].of(name, value) if name in expected else value
            for name, value in zip(names, args, strict=False)
        ]
        keywords = {
            name: expected[name].of(name, value) if name in expected else value for name, value in kwargs.items()
        }
        return function(*positional, *args[len(names) :], **keywords)  # type: ignore[arg-type] # by their annotations

    return wrapper


@dataclass(frozen=True, slots=True)
class _ExpectedType:
    """A type given by an annotation."""

    words: str
    """Its name in messages: "a whole number"."""
    plural: str
    """Its plural: "whole numbers"."""
    take: Callable[[str, Any], Any]
    """Converts a value, given the parameter's name; UsageError for a value without a clear meaning."""
    is_plain: bool = False
    """Whether it has no parts, so that its own error says everything."""
    types: tuple[type, ...] = ()
    """Types whose values are accepted unchanged."""
    is_by_name: bool = False
    """Whether it is, or contains, a type that is known only by its name."""

    @property
    def takes_none(self) -> bool:
        """Whether None is one of its values."""
        return NoneType in self.types

    def of(self, name: str, value: object) -> Any:  # noqa: ANN401 - of the type
        """Return a value converted to this type; UsageError, showing the value, if that is not possible."""
        if isinstance(value, self.types):
            return value
        if self.is_plain:
            return self.take(name, value)
        try:
            return self.take(name, value)
        except UsageError:  # of a part of the value
            raise refusal(name, self.words, value) from None


@functools.cache
def _field_types(kind: type) -> dict[str, _ExpectedType]:
    hints = get_type_hints(kind, localns=_Names(base.__module__ for base in kind.__mro__))
    return _expected_types({field.name: hints[field.name] for field in fields(kind)})


@functools.cache
def argument_types(function: Callable[..., Any], more: tuple[type, ...] = ()) -> dict[str, _ExpectedType]:
    """Return the annotated types of a function's arguments and of TypedDicts, without those that may be anything."""
    named = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind not in _VARIADIC
    ]
    annotated = {name: hint for name, hint in function.__annotations__.items() if name in named}
    hints = get_type_hints(SimpleNamespace(__annotations__=annotated), localns=_Names([function.__module__]))
    for options_type in more:  # inherited fields use the names of the module that defines them
        modules = {
            getattr(hint, "__forward_module__", None) or options_type.__module__
            for hint in options_type.__annotations__.values()
        }
        hints |= get_type_hints(options_type, localns=_Names(sorted(modules)))
    return _expected_types(hints)


def _expected_types(hints: Mapping[str, Any]) -> dict[str, _ExpectedType]:
    return {name: expected for name, hint in hints.items() if (expected := _expected_type(hint)) is not None}


class _ByName(type):
    """Stands for a name imported only for type checkers: any type of this name; `a.b.Name` is one of the package a."""

    package = ""

    def __instancecheck__(cls, value: object) -> bool:
        return any(
            kind.__name__ == cls.__name__ and cls.package in {"", kind.__module__.partition(".")[0]}
            for kind in type(value).__mro__
        )

    def __getattr__(cls, name: str) -> _ByName:
        if name.startswith("_"):
            raise AttributeError(name)
        return _ByName(name, (), {"package": cls.package or cls.__name__})


class _Names(dict[str, Any]):
    """The names that annotations may use, as defined in some modules."""

    def __init__(self, modules: Iterable[str]) -> None:
        super().__init__()
        self.modules = [vars(sys.modules[name]) for name in modules] + [vars(builtins)]

    def __missing__(self, name: str) -> Any:  # noqa: ANN401 - a type
        if name in _UNCHECKED:
            return Any
        if name == "SceneLike":
            return Union[str, os.PathLike, *(_ByName(scene_type, (), {}) for scene_type in _SCENES)]
        return next((module[name] for module in self.modules if name in module), _ByName(name, (), {}))


def _expected_type(hint: Any) -> _ExpectedType | None:  # noqa: ANN401, PLR0911 - of each kind of type
    """Return the type of an annotation; None if it accepts anything, or cannot be checked by a value."""
    hint = getattr(get_origin(hint) or hint, "__value__", hint)  # of a type alias, such as NDArray since NumPy 2.5
    origin, type_arguments = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return _any_of([NoneType if choice is None else choice for choice in type_arguments])
    if origin is Literal:
        return _one_of(type_arguments)
    if (origin or hint) in _PLAIN:
        return _PLAIN[origin or hint]
    if origin is tuple:
        return _list_of(type_arguments[0]) if type_arguments[1:] == (...,) else _tuple_of(type_arguments)
    if origin in {Sequence, Iterable}:
        return _list_of(type_arguments[0], sets=origin is Iterable)
    kind = origin or hint
    if not isinstance(kind, type) or kind in {object, Any} or getattr(kind, "_is_protocol", False):
        return None
    return _PLAIN.get(kind) or _instance(kind)


def _instance(kind: type) -> _ExpectedType:
    singular, plural = _WORDS.get(kind.__name__, (_with_article(kind.__name__), f"{kind.__name__} values"))

    def take(name: str, value: object) -> object:
        if not isinstance(value, kind):
            raise refusal(name, singular, value)
        return value

    return _ExpectedType(singular, plural, take, types=(kind,), is_by_name=isinstance(kind, _ByName))


def _any_of(hints: Sequence[Any]) -> _ExpectedType | None:
    types = [kind for hint in hints if (kind := _expected_type(hint)) is not None]
    if len(types) < len(hints):
        return None
    if _PLAIN[str] in types and (paths := [kind for kind in types if kind.plural == _PATHS]):
        others = [kind for kind in types if kind is not _PLAIN[str] and kind not in paths]
        types = [_PLAIN[os.PathLike], *others]
    if len(types) == 1:
        return types[0]
    shown_types = [kind for kind in types if kind.types != (NoneType,)]  # None means omitting the argument
    words, plural = " or ".join(kind.words for kind in shown_types), " or ".join(kind.plural for kind in shown_types)
    accepted_types = tuple(accepted for kind in types for accepted in kind.types)

    def take(name: str, value: object) -> object:
        """Return the value unchanged if one of the types accepts it so, or else converted by the first that can."""
        if isinstance(value, accepted_types):
            return value
        converted = []
        for kind in types:
            try:
                converted.append(kind.take(name, value))
            except UsageError:
                continue
            if converted[-1] is value:
                return value
        if not converted:
            raise refusal(name, words, value)
        return converted[0]

    return _ExpectedType(words, plural, take, types=accepted_types, is_by_name=any(kind.is_by_name for kind in types))


def _one_of(choices: Sequence[object]) -> _ExpectedType:
    words = f"one of {', '.join(map(str, choices))}"

    def take(name: str, value: object) -> object:
        matches = [choice for choice in choices if type(choice) in type(value).__mro__ and choice == value]
        if not matches:
            raise refusal(name, words, value)
        return matches[0]

    return _ExpectedType(words, words, take)


def _list_of(hint: Any, *, sets: bool = False) -> _ExpectedType:  # noqa: ANN401 - a type
    item_type = _expected_type(hint)

    def take(name: str, value: object) -> tuple[Any, ...]:
        values = list(value) if sets and isinstance(value, set | frozenset) else as_list(value)
        if values is None:
            raise refusal(name, "a list", value)
        return tuple(values) if item_type is None else tuple(item_type.take(name, item) for item in values)

    words = "a list" if item_type is None else f"a list of {item_type.plural}"
    is_by_name = item_type is not None and item_type.is_by_name
    return _ExpectedType(words, f"lists{words.removeprefix('a list')}", take, is_by_name=is_by_name)


def _tuple_of(hints: Sequence[Any]) -> _ExpectedType:
    kinds = [_expected_type(hint) for hint in hints]
    plurals = {kind.plural for kind in kinds if kind is not None}
    words = f"{_COUNTS.get(len(kinds), len(kinds))} {plurals.pop() if len(plurals) == 1 else 'values'}"

    def take(name: str, value: object) -> tuple[Any, ...]:
        values = as_list(value)
        if values is None or len(values) != len(kinds):
            raise refusal(name, words, value)
        pairs = zip(kinds, values, strict=True)
        return tuple(item if kind is None else kind.take(name, item) for kind, item in pairs)

    return _ExpectedType(words, f"lists of {words}", take)


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'AEIOU' else 'a'} {word}"


def _text_or_path(name: str, value: object) -> str:
    return os.fspath(as_path(name, value)) if isinstance(value, os.PathLike) else text(name, value)


_PLAIN: dict[Any, _ExpectedType] = {
    kind: _ExpectedType(one, several, take, is_plain=True)
    for kind, one, several, take in (
        (int, "a whole number", "whole numbers", integer),
        (float, "a number", "numbers", number),
        (bool, "True or False", "True or False", flag),
        (str, "a string", "strings", _text_or_path),
        (Path, "a path", _PATHS, lambda name, value: Path(as_path(name, value))),
        (os.PathLike, "a path", _PATHS, as_path),
    )
}
_COUNTS = {2: "two", 3: "three", 4: "four"}
_WORDS = {
    "NoneType": ("None", "None"),
    "ndarray": ("a NumPy array", "NumPy arrays"),
    "Mapping": ("a mapping", "mappings"),
    "dict": ("a dict", "dicts"),
    "Callable": ("a function", "functions"),
}
