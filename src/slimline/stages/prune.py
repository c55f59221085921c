"""prune: channels removed from the student, the rest retrained."""

from torch import nn

from slimline import artifacts
from slimline.core.resized import differing
from slimline.params.prune import Prune as PruneParams
from slimline.paths import Paths
from slimline.pruning import CRITERIA
from slimline.pruning.channels import cut_channels
from slimline.registry import build
from slimline.runtime.classifier import Classifier
from slimline.runtime.fit import fit
from slimline.runtime.outcome import Trained, leave
from slimline.runtime.settings import Made, Settings
from slimline.runtime.teacher import load_teacher, recovery
from slimline.tracking import Tracker


class Prune(Classifier):
    """Retrains what is left of a network, under the teacher where the parameters say so."""

    def __init__(self, model: nn.Module, params: PruneParams, teacher: nn.Module, input_shape: tuple[int, int, int]) -> None:
        assert params.fit is not None
        super().__init__(model, params.fit, recovery(model, params.fit, params.loss, teacher, input_shape))


def run(params: PruneParams, settings: Settings, paths: Paths, tracker: Tracker) -> Made:
    """Write `models/pruned/`, its curve and `metrics/prune.json`."""
    manifest, student = artifacts.load(paths.model("student"))
    before = sum(p.numel() for p in student.parameters())
    scores = build(CRITERIA, params.criterion, student)
    pruned = cut_channels(student, scores, manifest.input_shape, amount=params.amount, layer_limit=params.layer_limit, multiple_of=params.multiple_of)
    removed = 1 - sum(p.numel() for p in pruned.parameters()) / before
    manifest = manifest.after("resized", differing(artifacts.fresh(manifest), pruned))
    history = []
    if params.fit is not None:
        module = Prune(pruned, params, load_teacher(paths, manifest), manifest.input_shape)
        fit(module, paths.prepared, params.fit, settings, tracker=tracker, name="pruned")
        pruned, history = module.model, module.history
    extra = {"prune/asked": params.amount, "prune/obtained": removed}
    return leave("prune", paths, settings, Trained("pruned", manifest, pruned, history, extra=extra))
