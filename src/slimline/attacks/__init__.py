"""Attacks: ways to make a classifier err on images that it had right.

ATTACKS: `(*, parameters…) -> Attack`, called as `attack(victim, batch, budgets, seed)` for changed images, a batch a budget; see
`attacks.attack`. Images are float32 in [0, 1]; a victim's normalization lies inside its network.
"""

from slimline.registry import Table

ATTACKS: Table = {
    "fgsm": "slimline.attacks.fgsm:FGSM",
    "bim": "slimline.attacks.bim:BIM",
    "pgd": "slimline.attacks.pgd:PGD",
    "jsma": "slimline.attacks.jsma:JSMA",
    "carlini_wagner": "slimline.attacks.carlini_wagner:CarliniWagner",
    "transfer": "slimline.attacks.transfer:Transfer",
    "square": "slimline.attacks.square:Square",
    "hop_skip_jump": "slimline.attacks.hop_skip_jump:HopSkipJump",
    "gaussian_noise": "slimline.attacks.gaussian_noise:GaussianNoise",
    "impulse_noise": "slimline.attacks.impulse_noise:ImpulseNoise",
    "gaussian_blur": "slimline.attacks.gaussian_blur:GaussianBlur",
    "brightness": "slimline.attacks.brightness:Brightness",
    "contrast": "slimline.attacks.contrast:Contrast",
}
