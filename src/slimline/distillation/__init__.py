"""What a student learns from a teacher: losses `(student_shapes, teacher_shapes, *, parameters…) -> distillation.loss.Loss`."""

from slimline.registry import Table

LOSSES: Table = {
    "soft_hard": "slimline.distillation.soft_hard:SoftHard",
    "sum": "slimline.distillation.sum:Sum",
}
