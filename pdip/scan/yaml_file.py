"""Read YAML files, the geometry's and the settings', in which 1e-3 is a number."""

import re
from pathlib import Path
from typing import Any

import yaml

from pdip.errors import InputError
from pdip.scan.npy import regular_file

MAX_BYTES = 2**20
RANGE = ("tag:yaml.org,2002:str", re.compile(r"^[-+]?\d+:"))


class NumberLoader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in YAML 1.2, 10:20 is none, no text is a date, and no key
    stands twice in a mapping."""

    yaml_implicit_resolvers = {
        first: [RANGE, *(pair for pair in resolvers if not pair[0].endswith("timestamp"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        """PyYAML's, which would let the last of several values win without a word."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise InputError(
                    f"{key.value[:80]!r} is given twice, again in line {key.start_mark.line + 1}; "
                    "keep one of them."
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


NumberLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(path: str | Path, role: str) -> Any:
    """What a YAML file holds; None where it is empty.

    Args:
        path: the file.
        role: what it is, for messages, such as "geometry file".

    Raises:
        InputError: not readable, larger than 1 MiB, or not YAML.
    """
    path = regular_file(path, role)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path.name} is larger than 1 MiB; a {role} is a short text.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not valid YAML; save it as text in UTF-8.") from None
    try:
        return yaml.load(text, Loader=NumberLoader)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    # PyYAML lets through what its converters raise: bad dates, huge integers, deep nesting.
    except Exception as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise InputError(f"{path.name} is not valid YAML{place}; write 'key: value'.") from None
