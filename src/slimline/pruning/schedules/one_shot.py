"""All at once, then one training (Li et al., "Pruning Filters for Efficient ConvNets", 2017)."""

from torch import nn

from slimline.pruning.schedule import Course, Schedule


class OneShot(Schedule):
    """Cut, retrain."""

    needs_fit = False

    def run(self, course: Course, model: nn.Module) -> nn.Module:
        return course.retrained(course.cut(model, None))
