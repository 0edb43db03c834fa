"""The API's resources. Importing a module registers its routes; `due` and `dunning` register what follows of itself."""

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    for name in ("due", "dunning"):
        import_module(f"stripe_standin.{name}")
