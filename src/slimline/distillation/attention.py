"""Attention transfer (Zagoruyko & Komodakis, "Paying More Attention to Attention", 2017)."""

from jaxtyping import Float
from torch import Tensor

from slimline.distillation.features import pooled, unit
from slimline.distillation.loss import FeatureLoss, Shapes
from slimline.distillation.points import Named, chosen, incomparable, last_map


def attention(student: Float[Tensor, "batch channels h w"], teacher: Float[Tensor, "batch filters h w"]) -> Float[Tensor, ""]:
    """Mean over images of ‖Q_S / ‖Q_S‖ - Q_T / ‖Q_T‖‖², where Q = Σ_c A_c² is a map's attention, a number a pixel.

    The paper's equation 2 for one pair of layers, squared as in its authors' code.
    """
    own, theirs = (unit(maps.square().sum(1).flatten(1)) for maps in (student, teacher))
    return (own - theirs).square().sum(1).mean()


class Attention(FeatureLoss):
    """Σ over pairs of `attention`; widths may differ, and of two sizes the larger map is pooled to the smaller one's.

    It teaches no logits: a term of `sum`, in the paper with a weight of about 500 / pixels.

    Args:
        pairs: layers that answer feature maps of more than one pixel; null for the last one of both.

    Raises:
        SlimlineError: a layer that does not exist, or layers that cannot be compared.
    """

    def __init__(self, student: Shapes, teacher: Shapes, *, pairs: Named = None) -> None:
        super().__init__()
        self.pairs = chosen("attention", pairs, student, teacher, last_map)
        self.sizes: list[tuple[int, int]] = []
        for pair in self.pairs:
            own, theirs = student[pair[0]], teacher[pair[1]]
            size = tuple(map(min, own[1:], theirs[1:]))
            if not len(own) == len(theirs) == 3 or size == (1, 1):
                raise incomparable("attention", pair, student, teacher, "attention needs two feature maps of more than one pixel")
            self.sizes.append((size[0], size[1]))

    def compared(self, place: int, student: Float[Tensor, "batch ..."], teacher: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        return attention(*(pooled(maps, self.sizes[place]) for maps in (student, teacher)))
