"""What a sweep promised of the model to ship, beside what came of it, on the page."""

from slimline.report.numbers import count, percent, signed
from slimline.report.shown import Section, Table
from slimline.report.words import Numbers

READINGS = {"within": "as promised", "below": "below what was promised", "above": "above what was promised"}


def section(scorecard: Numbers) -> Section:
    """The table; nothing where no sweep's values were adopted."""
    told = scorecard.get("promise")
    if told is None:
        return Section()
    promised, obtained, images = told["promised"], told["obtained"], scorecard["data"]["test"]
    low, high = promised["accuracy"]
    rows = [
        ["test accuracy", f"{percent(low, images)} to {percent(high, images)}", percent(obtained["accuracy"], images), READINGS[told["accuracy"]]]
    ]
    for name, title in (("packed_bytes", "bytes of model.slim"), ("bops", "bit operations an image")):
        change = obtained[name] - promised[name]
        rows.append([title, count(promised[name]), count(obtained[name]), signed(change) if change else "as promised"])
    other = (
        ""
        if told["same"]
        else " Its bit operations are others, so parameters were changed since, or the student was: the promise is of another model."
    )
    return Section(
        table=Table(
            f"Trial {told['trial']} of the sweep {told['sweep']}, before and after",
            ["of the quantized model", "promised", "obtained", "reading"],
            rows,
            note=f"The accuracy was promised by validation images that chose nothing, 95\u202f% of what so many test images may show.{other}",
        )
    )
