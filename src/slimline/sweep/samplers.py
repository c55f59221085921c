"""Who proposes the next trial. Made anew for each one, from a seed of its own, so that a sweep that was cut off goes on as if it had not been."""

from typing import Annotated

from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from pydantic import Field


def tpe(seed: int, *, startup: Annotated[int, Field(ge=1)] = 10, multivariate: bool = True) -> BaseSampler:
    """Where good trials are dense and others are not (Bergstra et al., 2011; for several objectives Ozaki et al., 2022).

    Args:
        startup: trials that are drawn at random before any is compared.
        multivariate: parameters are drawn together, not one by one.
    """
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=multivariate)


def random(seed: int) -> BaseSampler:
    """Each value for itself, whatever came before (Bergstra & Bengio, 2012): what others are held against."""
    return RandomSampler(seed=seed)


def nsga2(seed: int, *, population: Annotated[int, Field(ge=2)] = 20) -> BaseSampler:
    """Generations of `population` trials, of which the best are crossed (Deb et al., 2002)."""
    return NSGAIISampler(seed=seed, population_size=population)
