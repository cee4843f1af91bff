"""Puts the embedded weights into the wheel; a checkout keeps using `weights/` where it is."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EmbeddedWeights(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling would copy a plain `force-include` on an editable install too, and let it age."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"]["weights"] = "synthct/_weights"
