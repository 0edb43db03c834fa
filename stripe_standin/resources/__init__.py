"""The API's resources. Importing a module registers its routes; `due` registers what happens as time passes."""

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    import_module("stripe_standin.due")
