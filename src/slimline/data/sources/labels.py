"""How the number of a class becomes its name."""

from collections.abc import Sequence

import numpy as np

from slimline.errors import SlimlineError


def class_names(labels: np.ndarray, classes: Sequence[str] | None, *, where: str) -> list[str]:
    """The class of each of `labels`: integers number `classes`, or stand for themselves where there are none; strings are names already.

    Raises:
        SlimlineError: labels of another type, an empty or unknown name, a number that is no index, or a class named twice; `where` is named.
    """
    if labels.dtype.kind not in "iuU":
        raise SlimlineError(f"{where}: labels are of type {labels.dtype}; store them as integers or as text")
    if classes is not None and len(set(classes)) < len(classes):
        raise SlimlineError(f"{where}: two classes have one name in {', '.join(classes)}; name each class once")
    named = labels.dtype.kind == "U"
    if classes is not None and not named and len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise SlimlineError(f"{where}: labels reach from {labels.min()} to {labels.max()}, but there are {len(classes)} classes, counted from 0")
    unique, index = np.unique(labels, return_inverse=True)
    names = [str(label) if named or classes is None else classes[label] for label in unique]
    unknown = sorted(name for name in names if not name.strip() or (classes is not None and name not in classes))
    if unknown:
        raise SlimlineError(f"{where}: '{unknown[0][:80]}' is no name of a class; mend the labels{'' if classes is None else ' or the classes'}")
    return [names[number] for number in index.tolist()]  # a string a class, not one an image
