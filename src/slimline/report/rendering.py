"""How every page is made of its template: HTML that needs nothing beside itself."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from slimline.report.numbers import count, label


def anchor(title: str) -> str:
    """A heading as the id that links go to."""
    return title.lower().replace(" ", "-")


def render(template: str, **values: Any) -> str:
    """The template of that file name with `values` in it; a value that is missing is an error, and text is escaped."""
    environment = Environment(
        loader=PackageLoader("slimline", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(label=label, count=count, anchor=anchor)
    return environment.get_template(template).render(values)
