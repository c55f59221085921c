"""What changed between two sets of prepared data, as a reader at a terminal or a program takes it."""

import json
from pathlib import Path

from slimline.data.diff import SPLITS, Difference, as_json, diff, worst
from slimline.report.numbers import aligned


def as_text(difference: Difference) -> str:
    """`difference` for a reader at a terminal."""
    d = difference
    sides = [f"{'×'.join(map(str, shape))}, digest {digest[:12]}" for shape, digest in zip(d.shapes, d.digests, strict=True)]
    parts = [f"Before: {sides[0]}; after: {sides[1]}"]
    changes = [("added", d.classes_added), ("removed", d.classes_removed)]
    parts += [f"Classes {word}: {', '.join(classes)}" for word, classes in changes if classes]
    parts.append(aligned([["images", "before", "after"], *([split, f"{old:,}", f"{new:,}"] for split, (old, new) in d.counts.items())]))
    if d.images is None:
        parts.append("Images of different shapes cannot be matched with each other; sharpness is compared between equal sizes alone.")
    else:
        kinds = [[kind, f"{getattr(d.images, kind):,}"] for kind in ("kept", "moved", "relabelled", "added", "removed")]
        parts.append(aligned([["same pixels", "images"], *kinds]))
        routes = [[f"{kind}: {route}", f"{count:,}"] for kind in ("moves", "relabels") for route, count in getattr(d.images, kind).items()]
        if routes:
            parts.append(aligned([["from → to", "images"], *routes]))
    header = ["share of class", *(f"{split} {when}" for split in SPLITS for when in ("before", "after"))]
    labels = list(d.balance[SPLITS[0]])
    parts.append(aligned([header, *([label, *(f"{share:.1%}" for split in SPLITS for share in d.balance[split][label])] for label in labels)]))
    moments = [[name, *(" ".join(f"{value:.3f}" for value in side) for side in sides)] for name, sides in (("mean", d.mean), ("std", d.std))]
    parts.append(aligned([["pixels in [0, 1]", "before", "after"], *moments]))
    rows = [[name, f"{s.psi:.3f}", f"{s.expected:.3f}", f"{s.sampling:.3f}", s.verdict] for name, s in d.stability.items()]
    parts.append(aligned([["stability index", "PSI", "by chance", "at most (99 %)", "verdict"], *rows]))
    parts.append("PSI below 0.1: stable; to 0.25: shift; above: large. What sampling alone brings in 99 of 100 cases is no drift.")
    return "\n\n".join(parts)


def difference_command(before: Path, after: Path, *, as_program: bool, limit: float | None) -> bool:
    """Print the difference, as JSON for a program; say whether it stays within `limit`, where one is given."""
    difference = diff(before, after)
    print(json.dumps(as_json(difference), indent=2) if as_program else as_text(difference))
    return limit is None or worst(difference) <= limit
