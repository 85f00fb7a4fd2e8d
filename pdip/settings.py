"""The settings of a run: for each stage, the keywords that differ from its defaults.

Nothing is listed here twice. A section is a stage, a key is a keyword of that stage's signature,
a default is the one in the signature, and the type a key must have is its annotation.
"""

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from pdip.calibration.recalibration import NOISE
from pdip.check_design import REGIONS, WITHHELD, CheckDesign
from pdip.dip import UNet, fit_dip
from pdip.dip.fit import check_settings
from pdip.dip.start import STARTS
from pdip.dip.stopping import STOPPING_RULES
from pdip.dip.unet import OutputActivation, check_network
from pdip.errors import InputError
from pdip.evidence import HYPERPRIORS, OBJECTIVES, optimise_evidence
from pdip.evidence.optimise import check_search
from pdip.linearised import linearise, unet_prior
from pdip.linearised.model import ACTIVATIONS
from pdip.linearised.prior import check_prior
from pdip.posterior import pooled_posterior
from pdip.posterior.mixture import CENTRES
from pdip.ray import ray_transform
from pdip.ray.engine import ENGINES, PROJECTORS
from pdip.scan.checks import shown
from pdip.scan.preprocessing import DATA_KINDS
from pdip.solvers import SOLVERS, Projected

STAGES: dict[str, Callable] = {
    "ray": ray_transform,
    "network": UNet,
    "dip": fit_dip,
    "prior": unet_prior,
    "linearise": linearise,
    "evidence": optimise_evidence,
    "posterior": pooled_posterior,
    "calibration": CheckDesign,
}
"""Section -> the stage whose keywords it sets, in the order of the pipeline."""

CHOICES: dict[str, dict[str, Callable]] = {
    "objective": OBJECTIVES,
    "hyperprior": HYPERPRIORS,
    "solver": SOLVERS,
    "preconditioner": {"projected": Projected},
    "dtype": {"float32": lambda: torch.float32, "float64": lambda: torch.float64},
}
"""Key -> what it may name. ``{name: tv_predcp, rate: 2}`` gives the choice its own keywords."""

RECORDS = {"scan", "ray", "network", "fit", "model", "models", "before", "progress", "keeper"}
"""Parameters of stages that the pipeline fills."""

FROM_DATA = {
    ("network", "scales"): "from the grid",
    ("network", "activation"): "sigmoid, or none for large images and where it clips",
    ("network", "image_scale"): "from the data",
    ("network", "seed"): "that of dip",
    ("posterior", "centre"): "midpoint without output activation, else network",
}
"""Keys that are chosen where they are left out or null, and how."""

WORDS: dict[tuple[str, str], Iterable[str]] = {
    ("scan", "data_kind"): DATA_KINDS,
    ("ray", "engine"): ("auto", *ENGINES),
    ("ray", "projector"): PROJECTORS,
    ("network", "norm"): ("none", "group"),
    ("network", "activation"): OutputActivation.functions,
    ("dip", "stop"): STOPPING_RULES,
    ("dip", "start"): STARTS,
    ("linearise", "activation"): ACTIVATIONS,
    ("posterior", "centre"): tuple(CENTRES),
    ("calibration", "withhold"): WITHHELD,
    ("calibration", "noise"): NOISE,
    ("calibration", "regions"): REGIONS,
}
"""Keys that take one of a few words."""

CHECKS: dict[str, Callable] = {
    "network": check_network,
    "dip": check_settings,
    "prior": check_prior,
    "evidence": check_search,
}
"""Section -> what refuses numbers out of range, before anything is computed."""


@dataclass(frozen=True)
class Settings:
    """Keywords of each stage; a key left out keeps the default of the stage's signature.

    Args:
        ray: of :func:`pdip.ray_transform`.
        network: of :class:`pdip.UNet`; what is left out is chosen by :func:`pdip.fit_dip`.
        dip: of :func:`pdip.fit_dip`.
        prior: of :func:`pdip.unet_prior`.
        linearise: of :func:`pdip.linearise`.
        evidence: of :func:`pdip.optimise_evidence`; objective, hyperprior and solver by name.
        posterior: of :func:`pdip.posterior.pooled_posterior`.
        calibration: of :class:`CheckDesign`, where :func:`pdip.check_calibration` is asked for.

    Raises:
        InputError: an unknown key (the nearest one is named), a value of the wrong kind, or a
            number that is out of range.

    Example:
        >>> Settings(dip={"max_steps": 200}, evidence={"hyperprior": "tv_predcp"}).dip["max_steps"]
        200
    """

    ray: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    dip: Mapping[str, Any] = field(default_factory=dict)
    prior: Mapping[str, Any] = field(default_factory=dict)
    linearise: Mapping[str, Any] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    posterior: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for section in STAGES:
            checked = checked_section(section, STAGES[section], getattr(self, section))
            object.__setattr__(self, section, MappingProxyType(checked))
        for section, check in CHECKS.items():
            values = defaults(section) | dict(getattr(self, section))
            check(**{key: values[key] for key in inspect.signature(check).parameters})
        for stage in (self.evidence, self.posterior):
            chosen("solver", stage.get("solver"))
        chosen("hyperprior", self.evidence.get("hyperprior"))
        nothing = torch.zeros(0, dtype=torch.bool)  # which rays are withheld is not known yet
        chosen("objective", self.evidence.get("objective"), held_out=nothing)
        if self.linearise.get("nugget_std") is not None:
            check_nugget_objective(self.evidence.get("objective"))
        CheckDesign(**self.calibration)

    @classmethod
    def of(cls, sections: Mapping[str, Mapping[str, Any]]) -> "Settings":
        """Settings from a plain mapping ``{section: {key: value}}``, such as a YAML file's."""
        for section in sections:
            if section not in STAGES:
                raise InputError(f"unknown section {section!r}; {nearest(section, STAGES)}")
        return cls(**sections)

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Every key of every stage with its value or default, as plain data for YAML and JSON."""
        return {
            section: {
                key: named(key, getattr(self, section).get(key, default))
                for key, default in defaults(section).items()
            }
            for section in STAGES
        }


def check_nugget_objective(objective: Any) -> None:
    """Raise InputError where the objective says nothing of a nugget."""
    name = objective.get("name") if isinstance(objective, Mapping) else objective
    if name is None or "weights" in str(name):
        raise InputError(
            "linearise.nugget_std needs an objective that says something of a nugget; give "
            "--evidence.objective profile or conditional."
        )


@cache
def keywords(stage: Callable) -> dict[str, inspect.Parameter]:
    """The parameters of a stage that a user may set: those with a default that are no records."""
    hints = typing.get_type_hints(stage.__init__ if inspect.isclass(stage) else stage)
    return {
        name: parameter.replace(annotation=hints.get(name, Any))
        for name, parameter in inspect.signature(stage).parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in RECORDS
    }


def defaults(section: str) -> dict[str, Any]:
    """The default of every key of a section; None for those that are chosen from the data."""
    return {
        key: None if (section, key) in FROM_DATA else parameter.default
        for key, parameter in keywords(STAGES[section]).items()
    }


def checked_section(
    section: str, stage: Callable, values: Mapping[str, Any], named: str | None = None
) -> dict[str, Any]:
    """The keys and values of one section, each value in the type of the stage's annotation.

    Raises:
        InputError: not a mapping, an unknown key, or a value of the wrong kind.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{section!r} must hold lines 'key: value', got {shown(values)}.")
    known = keywords(stage)
    for key in values:
        if key not in known:
            raise InputError(f"unknown key '{section}.{key}'; {nearest(str(key), known, section)}")
    for key, value in values.items():
        words = WORDS.get((section, key))
        if words is not None and value is not None and value not in tuple(words):
            raise InputError(
                f"{named or f'{section}.{key}'} must be one of {', '.join(words)}, got "
                f"{shown(value)}."
            )
    return {
        key: _checked_value(named or f"{section}.{key}", key, known[key].annotation, value)
        for key, value in values.items()
        if not ((section, key) in FROM_DATA and value is None)
    }


def chosen(key: str, value: Any, **defaults: Any) -> Any:
    """The object that a name such as ``network_weights`` stands for.

    Args:
        key: key of :data:`CHOICES`.
        value: a name, a mapping with ``name`` and keywords, None, or the object itself.
        defaults: keywords of the choice where it takes them and the settings leave them out.
    """
    if not isinstance(value, (str, Mapping)):
        return value
    arguments = {"name": value} if isinstance(value, str) else dict(value)
    arguments |= {k: chosen(k, v) for k, v in arguments.items() if k in CHOICES}
    make = CHOICES[key][arguments.pop("name")]
    accepted = inspect.signature(make).parameters
    return make(**{k: v for k, v in defaults.items() if k in accepted} | arguments)


def named(key: str, value: Any) -> Any:
    """The inverse of :func:`chosen`: a value as YAML and JSON can hold it."""
    for name, make in CHOICES.get(key, {}).items():
        if inspect.isclass(make) and type(value) is make:
            own = {f.name: named(f.name, getattr(value, f.name)) for f in fields(value)}
            differing = {k: v for k, v in own.items() if v != named(k, keywords(make)[k].default)}
            return {"name": name, **differing} if differing else name
    return plain(value)


def nearest(name: str, known, section: str = "") -> str:
    """Half a sentence that names the nearest of the known names."""
    near = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.0)
    prefix = f"{section}." if section else ""
    return f"nearest: '{prefix}{near[0]}'." if near else "there is none."


def plain(value: Any) -> Any:
    """The value as YAML and JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value).removeprefix("torch.")


def _checked_value(where: str, key: str, annotation: Any, value: Any) -> Any:
    if key in CHOICES:
        return _checked_choice(where, key, value)
    if annotation == torch.device | str:
        annotation = str
    expected = _in_words(annotation)
    if where.startswith("--"):  # an option is left out, not null
        expected = expected.removesuffix(" or null")
    if isinstance(value, bool) and annotation is not bool:
        raise InputError(f"{where} must be {expected}, got {value}.")
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError:
        raise InputError(f"{where} must be {expected}, got {shown(value)}.") from None


def _checked_choice(where: str, key: str, value: Any) -> Any:
    name = value.get("name") if isinstance(value, Mapping) else value
    is_object = not isinstance(name, (str, int, float, list, tuple, type(None)))
    if value is None or is_object:
        return value
    if not isinstance(name, str) or name not in CHOICES[key]:
        names = ", ".join(CHOICES[key])
        raise InputError(f"{where} must be one of {names}, got {shown(name)}.")
    if isinstance(value, Mapping):
        arguments = {k: v for k, v in value.items() if k != "name"}
        arguments = checked_section(f"{where} ({name})", CHOICES[key][name], arguments)
        return {"name": name} | arguments
    return value


@cache
def _adapter(annotation: Any) -> TypeAdapter:
    finite = ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        return TypeAdapter(annotation, config=finite)
    except PydanticUserError:
        return TypeAdapter(annotation)


def _in_words(annotation: Any) -> str:
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    if annotation in words:
        return words[annotation]
    if annotation is type(None):
        return "null"
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin in (typing.Union, type(int | None)):
        return " or ".join(_in_words(part) for part in parts)
    if parts:
        return f"a list, each item {_in_words(parts[0])}"
    return getattr(annotation, "__name__", str(annotation))
