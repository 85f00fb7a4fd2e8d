"""The version of this package, installed or run from its folder; ``pyproject.toml`` reads it."""

VERSION = "0.1.0"
