"""Training batches: a split in a new order each epoch, augmented and mixed by whole tensors."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from slimline.core.batch import Batch
from slimline.core.draws import Draws
from slimline.core.labels import known
from slimline.data.augment import AUGMENTATIONS
from slimline.data.batches import scaled
from slimline.data.mix import MIXES
from slimline.data.prepared import Split
from slimline.errors import SlimlineError
from slimline.registry import Spec, build


@dataclass(frozen=True)
class Mixing:
    """A mix, and the number of classes among which its labels are shares."""

    spec: Spec
    classes: int


@dataclass
class Shuffled:
    """A split in a new order each epoch, augmented.

    The order of epoch e is decided by (seed, e), and what happens to a sample by (seed, e, sample): its view has the same bits
    whatever the batch size, the number of processes, the epoch at which a run was resumed, and the place of the images.
    With `views` = K, epoch e shows view e modulo K, which has the bits of epoch e modulo K without it.

    `batch_size` counts the images of a step over all processes. Each step's batch is cut over these, parts differing by one image at
    most, so that together they meet exactly the batches of a single process.

    The last batch may be smaller. Where it would leave a process less than two images it is left out, in all of them, unless it is the
    only one: batch statistics of one image are undefined, and a process without a batch would keep the others waiting.

    `epoch` counts the passes made; set it to continue at a later one. The first `done` batches of the first pass are given as None, which
    costs nothing: a run that was interrupted within an epoch has them behind it.

    Args:
        augment: specs of augmentations, in order.
        mix: each image with another of the whole split, drawn by (seed, view, sample) too and seen as augmented itself; None: unmixed.
        views: in how many ways an image is seen, epoch by epoch; None: in a new one each epoch.

    Raises:
        SlimlineError: no images, or a batch or split with less than two for each of several processes.
    """

    images: Split
    batch_size: int
    seed: int
    augment: Sequence[Spec] = ()
    mix: Mixing | None = None
    epoch: int = 0
    done: int = 0
    rank: int = 0
    ranks: int = 1
    views: int | None = None

    def __post_init__(self) -> None:
        needed = 2 * self.ranks if self.ranks > 1 else 1
        if self.batch_size < needed:
            raise SlimlineError(
                f"fit.batch_size is {self.batch_size}, over {self.ranks} devices that need two images each; "
                f"raise fit.batch_size to at least {needed}, or use fewer devices"
            )
        if len(self.images) < needed:
            each, fewer = (f"the {self.ranks} devices need two each", " or use fewer devices") if self.ranks > 1 else ("one is needed", "")
            raise SlimlineError(f"the split has {len(self.images)} images, and {each}; add images{fewer}")

    def __len__(self) -> int:
        whole, rest = divmod(len(self.images), self.batch_size)
        return whole + (rest >= (2 * self.ranks if whole else 1))

    def __iter__(self) -> Iterator[Batch | None]:
        # A pass counts from its first batch: an iterator that is made and not used changes nothing.
        done, self.done = self.done, 0
        places = ((step, self.rank) for step in range(done, len(self)))
        batches = self.parts(places)
        yield from [None] * done
        yield from batches

    def parts(self, places: Iterable[tuple[int, int]]) -> Iterator[Batch]:
        """Batches of this pass by step and part, whoever's part that is; the next call is about the next pass."""
        order = torch.randperm(len(self.images), generator=self._generator()).to(self.images.home)
        view = self.epoch if self.different is None else self.epoch % self.different
        self.epoch += 1
        whole = order.split(self.batch_size)
        return self._seen((whole[step].tensor_split(self.ranks)[part] for step, part in places), view)

    @property
    def different(self) -> int | None:
        """In how many ways an image is seen in all; None: in a new one each epoch."""
        return 1 if self.mix is None and not self.augment else self.views

    def every_view(self) -> Iterator[Batch]:
        """Each image in each of the `different` ways, whichever process would meet it; in the split's order, so that no pass is counted."""
        for view in range(self.different or 0):
            yield from self._seen(iter(torch.arange(len(self.images), device=self.images.home).split(self.batch_size)), view)

    def _seen(self, parts: Iterator[Tensor], view: int) -> Iterator[Batch]:
        """The samples of each of `parts` in one view."""

        def draws(stream: str) -> Draws:
            return Draws(self.seed, view, stream)

        transforms = [build(AUGMENTATIONS, spec, draws(f"augment {place}")) for place, spec in enumerate(self.augment)]
        mix = None if self.mix is None else build(MIXES, self.mix.spec, draws("mix"))
        if mix is not None:
            partners = draws("partner")
            parts = (torch.cat([own, partners.integers(own, 1, len(self.images))[:, 0]]) for own in parts)

        def batch(gathered: tuple[Tensor, Tensor, Tensor]) -> Batch:
            samples, pixels, labels = gathered
            views = scaled(pixels)
            for transform in transforms:
                views = transform(views, samples)
            if self.mix is None or mix is None:
                return Batch(views, labels, samples, view)
            own, others = views.chunk(2)
            samples = samples[: len(own)]
            mixed, weight = mix(own, others, samples)
            return Batch(mixed, shares(labels, weight, self.mix.classes), samples, view)

        # Not a loop that yields: its variables would keep a batch's tensors while the next ones are made, in other, colder memory.
        return map(batch, self.images.gathered(parts))

    def _generator(self) -> torch.Generator:
        # Torch's generator heeds the lowest 32 bits of a seed alone, so a digest stirs both numbers into those.
        words = hashlib.sha256(f"{self.seed} {self.epoch} 0".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(words[:4], "big"))


def shares(labels: Int64[Tensor, " pairs"], weight: Float[Tensor, " batch"], classes: int) -> Float[Tensor, "batch classes"]:
    """weight · label + (1 - weight) · partner's label, unknown where one of them is; `labels` holds the batch's, then its partners'."""
    own, partners = F.one_hot(labels.clamp(min=0), classes).chunk(2)
    labelled = torch.stack(known(labels).chunk(2)).all(0)
    return (weight[:, None] * own + (1 - weight[:, None]) * partners) * labelled[:, None]
