"""One way to train, for every stage."""

from pathlib import Path

import torch

from slimline.core.objective import Objective
from slimline.data.batches import Ordered
from slimline.data.prepared import Images, describe, load_split
from slimline.data.resident import resident
from slimline.data.shuffled import Mixing, Shuffled
from slimline.errors import SlimlineError
from slimline.params.fit import Fit
from slimline.registry import Spec, build
from slimline.runtime.checkpoints import Checkpoints
from slimline.runtime.classifier import Classifier, Epoch
from slimline.runtime.keeping import Keeper
from slimline.runtime.losses import NotFiniteError
from slimline.runtime.parallel import STRATEGIES, SYNCHRONY
from slimline.runtime.parallel.arrangement import READS_LAYERS, Arrangement, Divided
from slimline.runtime.settings import Settings
from slimline.runtime.stopping import STOP
from slimline.runtime.trainer import trainer
from slimline.tracking import Tracker, flattened

EVALUATION_BATCH = 512
"""Images a call in validation; it changes no result, only memory."""


def fit(module: Classifier, prepared: Path, params: Fit, settings: Settings, *, tracker: Tracker, name: str, train_on: Images | None = None) -> Epoch:
    """Train `module` on the training split, leave it with the weights of its best epoch (by the validation split), return that.

    A training that was interrupted goes on from its last checkpoint, to the same bytes.

    Args:
        prepared: folder of the prepared data.
        name: of what is trained; tells the checkpoints of a stage's trainings apart.
        train_on: in the place of the training split.

    Raises:
        SlimlineError: data or hardware that do not fit the parameters, or a loss that is no finite number.
        Stopped: by a signal, with a checkpoint.
    """
    arrangement = arranged(params, settings, module.objective)
    checkpoints = settings.place.training(name) if settings.place is not None else None
    resumed = checkpoints.load() if checkpoints is not None and settings.world.first else None
    splits = (load_split(prepared, "train") if train_on is None else train_on, load_split(prepared, "validation"))
    images, held_out = (resident(split, arrangement.device, settings.hardware.resident_mb) for split in splits)
    if params.batch_size > len(images):
        raise SlimlineError(f"fit.batch_size is {params.batch_size}, but the training split has {len(images)} images; lower it")
    if params.precision == 64:
        module.double()
    module.to(memory_format=arrangement.layout(params))  # type: ignore[call-overload]
    mix = None if params.mix is None else Mixing(params.mix, len(describe(prepared).classes))
    train = Shuffled(images, params.batch_size, settings.seed, params.augment, mix, views=params.views, **arrangement.share)
    module.prepare(arrangement, train, resumed)
    train.epoch, train.done = module.position.epoch, module.position.step
    keeper = Keeper(checkpoints, tracker, name)
    lightning = trainer(
        max_epochs=params.epochs,
        callbacks=[keeper],
        strategy=arrangement.lightning(),
        accelerator="gpu" if arrangement.device.type == "cuda" else "cpu",
        **arrangement.strategy_settings(),
    )
    progress = lightning.fit_loop.epoch_progress.current
    for counter in ("ready", "started", "processed", "completed"):
        setattr(progress, counter, module.position.epoch)
    module.train()  # a model from disk is in eval mode, and Lightning keeps the mode that it finds
    with settings.clock.part("fit"), STOP.deferred():
        try:
            lightning.fit(module, arrangement.loader(train), Ordered(held_out, EVALUATION_BATCH, **arrangement.share))
        except NotFiniteError as error:
            raise _undefined(error, module, checkpoints) from error
        except (RuntimeError, ValueError, OverflowError, ConnectionError, EOFError) as error:
            raise (
                _explained(error, settings, served=params.synchrony is not None and isinstance(error, ConnectionError | EOFError)) or error
            ) from error
    if report := arrangement.report():
        tracker.metrics({f"parallel/{key.replace('.', '/')}": value for key, value in flattened(report).items()})
    module.model = arrangement.finish(module.model)
    module.cpu().float()
    return module.restore_best()


def arranged(params: Fit, settings: Settings, objective: Objective) -> Arrangement:
    """The way in which the processes of `settings` train.

    Raises:
        SlimlineError: what an arrangement cannot do; 16 bits without a CUDA device; a compiled network, whose layers cannot be read.
    """
    if params.precision == 16 and not settings.hardware.on_cuda():
        raise SlimlineError("fit.precision 16 needs a CUDA device; take bf16 or 32")
    strategy: Spec = settings.hardware.strategy  # type: ignore[assignment]
    if params.synchrony is not None and strategy["name"] != "ddp":
        raise SlimlineError(
            f"fit.synchrony is {params.synchrony['name']}, which needs the whole network in each process, but hardware.strategy is "
            f"{strategy['name']}; make it ddp, or fit.synchrony null"
        )
    table, spec = (STRATEGIES, strategy) if params.synchrony is None else (SYNCHRONY, params.synchrony)
    arrangement: Arrangement = build(table, spec, settings.world, settings.hardware)
    asked = {
        "fit.ema": params.ema is not None,
        "fit.compile": params.compile,
        f"fit.precision {params.precision}": True,
        READS_LAYERS: objective.reads_layers,
    }
    unfit = sorted(what for what in arrangement.unfit if asked.get(what))
    if unfit and not settings.world.alone:
        where = "hardware.strategy" if params.synchrony is None else "fit.synchrony"
        raise SlimlineError(f"{unfit[0]} and {where} {spec['name']} do not go together in several processes; leave one of them out")
    if params.norm_sparsity > 0 and isinstance(arrangement, Divided) and not settings.world.alone:
        raise SlimlineError(f"fit.norm_sparsity needs the whole network in each process, unlike hardware.strategy {spec['name']}; make it ddp, or 0")
    if params.compile and objective.reads_layers:
        raise SlimlineError(f"fit.compile and {READS_LAYERS} do not go together; leave one of them out")
    return arrangement


def _undefined(error: NotFiniteError, module: Classifier, checkpoints: Checkpoints | None) -> SlimlineError:
    newest = checkpoints.newest if checkpoints is not None else None
    kept = f"the last good checkpoint is {newest}" if newest else "no checkpoint was due yet"
    rate = module.updates.rate(module.current_epoch * len(module.train_split) + error.step)
    return SlimlineError(
        f"the loss became {error.value} in epoch {module.current_epoch + 1} at step {error.step + 1}, at a learning rate of "
        f"{rate:.3g}; nothing of it was saved ({kept}); lower fit.optimizer.lr, or set fit.clip_norm"
    )


def _explained(error: Exception, settings: Settings, *, served: bool) -> SlimlineError | None:
    """What torch, or the way to another process, complains of in the words of params.yaml; None where that is not known.

    Args:
        served: whether it is a parameter server that does not answer.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, torch.OutOfMemoryError):
        return SlimlineError(f"the device has no memory left ({text[:120]}); lower fit.batch_size, or cut the network (hardware.strategy)")
    if "allocate memory" in text or "Storage size calculation overflowed" in text:
        return SlimlineError(f"this machine has no memory left ({text[:160]}); lower fit.batch_size, or take a smaller network")
    if "Expected more than 1 value per channel" in text:
        return SlimlineError("a batch norm cannot train on batches of one image; raise fit.batch_size, add images, or take another norm")
    if "without overflow" in text or isinstance(error, OverflowError):
        return SlimlineError(f"a number of fit or loss leaves the range of 32 bits ({text[:80]}); lower fit.optimizer.lr, and whatever else is huge")
    if "does not have a deterministic implementation" in text:
        return SlimlineError(f"{text[:160]}; replace that operation in the network: slimline trains repeatably alone")
    return settings.world.lost(text, "the parameter server") if served else settings.world.lost_touch(text)
