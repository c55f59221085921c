"""What a student learns from a teacher: losses `(student_logits, teacher_logits, labels, *, parameters…) -> scalar`."""

from slimline.registry import Table

LOSSES: Table = {
    "soft_hard": "slimline.distillation.soft_hard:soft_hard",
}
