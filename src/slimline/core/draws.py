"""Random numbers that belong to a sample: decided by (seed, epoch, stream, sample), not by the order in which they are asked for.

    number k of sample s = stir(stir(key + s·γ) + k·γ)        key = the first 64 bits of SHA-256(seed, epoch, stream)

in integers of 64 bits that wrap; `stir` and γ are those of SplitMix64 (Steele, Lea & Flood, "Fast Splittable Pseudorandom Number
Generators", 2014). Nothing but integer arithmetic and look-ups happens on the device, so the bits are the same on every device,
and a batch costs what is in it, not what is in the split.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.special import ndtri
from torch import Tensor

LEVELS = 2**16
"""Entries of a table of quantiles."""


def _signed(word: int) -> int:
    """The integer of 64 bits, as torch holds it, with the bits of `word`."""
    return word - 2**64 if word >= 2**63 else word


GAMMA = _signed(0x9E3779B97F4A7C15)
FIRST = _signed(0xBF58476D1CE4E5B9)
SECOND = _signed(0x94D049BB133111EB)


@dataclass(frozen=True)
class Draws:
    """Numbers for every sample of an epoch.

    Number k of a sample is the same at every call, and all kinds of numbers are made of the same bits: ask once for all that are
    needed, or in streams of different names.
    """

    seed: int
    epoch: int
    stream: str

    def uniform(self, samples: Int64[Tensor, " batch"], count: int) -> Float[Tensor, "batch count"]:
        """In [0, 1): multiples of 2⁻²⁴, all alike."""
        return _shifted(self._words(samples, count), 40).float() * 2.0**-24

    def integers(self, samples: Int64[Tensor, " batch"], count: int, below: int) -> Int64[Tensor, "batch count"]:
        """In [0, below); none is likelier than another by more than a share of below / 2⁶³."""
        return _shifted(self._words(samples, count), 1) % below

    def normal(self, samples: Int64[Tensor, " batch"], count: int) -> Float[Tensor, "batch count"]:
        """Standard normal in 65536 steps of equal probability: mean 0, deviation 0.99999, at most 4.33 in size.

        Quantiles are looked up: logarithms and cosines differ in their last bits between devices, even between the lanes of one.
        """
        quarters = self._words(samples, -(-count // 4)).view(torch.int16)[:, :count].int() + LEVELS // 2
        return normal_quantiles(samples.device).index_select(0, quarters.flatten()).view(quarters.shape)

    def _words(self, samples: Tensor, count: int) -> Tensor:
        key = int.from_bytes(hashlib.sha256(f"{self.seed} {self.epoch} {self.stream}".encode()).digest()[:8], "little", signed=True)
        own = _stirred(samples * GAMMA + key)
        return _stirred(own[:, None] + torch.arange(1, count + 1, device=samples.device) * GAMMA)


def midpoints() -> Float64[np.ndarray, " levels"]:
    """The probabilities at which a table holds quantiles: (i + ½) / 65536."""
    return (np.arange(LEVELS) + 0.5) / LEVELS


def looked_up(table: Float[Tensor, "*rows levels"], uniform: Float[Tensor, " batch"]) -> Float[Tensor, "*rows batch"]:
    """What a table of quantiles holds for numbers in [0, 1)."""
    return table[..., (uniform * LEVELS).long()]


@lru_cache
def normal_quantiles(device: torch.device) -> Float[Tensor, " levels"]:
    """The inverse of the normal distribution function."""
    return torch.from_numpy(ndtri(midpoints())).float().to(device)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """`words` moved right, zeros coming in; torch's own shift repeats the sign."""
    return (words >> bits) & (2 ** (64 - bits) - 1)


def _stirred(words: Tensor) -> Tensor:
    words = (words ^ _shifted(words, 30)) * FIRST
    words = (words ^ _shifted(words, 27)) * SECOND
    return words ^ _shifted(words, 31)
