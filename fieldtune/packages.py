"""The Python packages that this installation of Fieldtune asks for, and those that are there."""

import platform
from dataclasses import dataclass
from importlib import metadata

from fieldtune.errors import UserError


@dataclass(frozen=True)
class Package:
    """One package: its installed `version` (None: absent), the `bounds` it must keep, and whether it does.

    `extra` names the part of Fieldtune that asks for it (``pip install '.[EXTRA]'``), None the core.
    """

    name: str
    version: str | None
    bounds: str
    extra: str | None
    fits: bool


def installed_packages() -> list[Package]:
    """Return Python itself, then what the core asks for, then what the extras ask for.

    Raises:
        UserError: Fieldtune is not installed, or the package that compares versions is not.
    """
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError as error:
        raise UserError("the package packaging is not installed; run: pip install packaging") from error
    try:
        described = metadata.metadata("fieldtune")
        needed = [Requirement(text) for text in metadata.requires("fieldtune") or []]
    except metadata.PackageNotFoundError as error:
        raise UserError("fieldtune is not installed; run in its folder: pip install .") from error
    python = SpecifierSet(described["Requires-Python"] or "")
    found = [
        Package("Python", platform.python_version(), str(python), None, platform.python_version() in python)
    ]
    seen = set()
    for requirement in needed:
        extra = str(requirement.marker).split('"')[1] if requirement.marker else None
        if requirement.name in seen or extra == "dev":  # what only our own tests and checks use
            continue
        seen.add(requirement.name)
        version = _version(requirement.name)
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        found.append(Package(requirement.name, version, str(requirement.specifier), extra, fits))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
