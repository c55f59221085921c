"""What a student learns from a teacher: losses `(student_shapes, teacher_shapes, *, parameters…) -> distillation.loss.Loss`."""

from slimline.registry import Table

LOSSES: Table = {
    "soft_hard": "slimline.distillation.soft_hard:SoftHard",
    "hard": "slimline.distillation.hard:Hard",
    "dkd": "slimline.distillation.dkd:DKD",
    "labels": "slimline.distillation.labels:LabelsTerm",
    "hint": "slimline.distillation.hint:Hint",
    "attention": "slimline.distillation.attention:Attention",
    "relational": "slimline.distillation.relational:Relational",
    "similarity": "slimline.distillation.similarity:Similarity",
    "contrastive": "slimline.distillation.contrastive:Contrastive",
    "sum": "slimline.distillation.sum:Sum",
}
