"""`slimline predict`."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from slimline.commands.command import Commands, count
from slimline.errors import SlimlineError
from slimline.paths import Paths


def declare(commands: Commands) -> None:
    predicting = commands.add_parser("predict", help="classes of images and how probable they are, by a model as it is shipped")
    predicting.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    predicting.add_argument("--model", type=Path, required=True, help="folder with model.onnx or model.slim, or one of these files")
    predicting.add_argument("--top", type=count, default=3, help="so many classes an image (default: 3)")
    predicting.add_argument("--json", action="store_true", help="print JSON, all classes")
    predicting.add_argument(
        "--resize", choices=("fit", "pad", "crop"), help="as in data.resize (default: as the images were made that the model learned from)"
    )
    predicting.add_argument("--background", type=int, help="as in data.background (default: likewise)")
    predicting.add_argument("--threads", type=count, default=1)
    predicting.set_defaults(run=predict)


def predict(_paths: Paths, given: argparse.Namespace) -> None:
    """Print what a model sees in images."""
    from slimline.evaluation.predict import probabilities, shipped

    asked = {"resize": given.resize, "background": given.background}
    if given.background is not None and not 0 <= given.background <= 255:
        raise SlimlineError(f"--background: found {given.background}; a grey level from 0 to 255")
    model = replace(shipped(given.model, threads=given.threads), **{key: value for key, value in asked.items() if value is not None})
    rows = probabilities(model, given.images)
    if given.json:
        found = [
            {"image": str(i), "probabilities": dict(zip(model.classes, row.tolist(), strict=True))} for i, row in zip(given.images, rows, strict=True)
        ]
        print(json.dumps(found, ensure_ascii=False))
        return
    for image, row in zip(given.images, rows, strict=True):
        best = (-row).argsort(kind="stable")[: given.top]
        print(f"{image}  " + "  ".join(f"{model.classes[place]} {row[place]:.4f}" for place in best))
