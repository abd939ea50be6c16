"""Proposes the parameters that a search tries: a full grid, a random sample, or optuna's suggestions.

The proposals depend only on the config, its seed, and the results of the candidates tried so far.
"""

import itertools
import json
import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

from shared.errors import RequestError
from shared.jobs.search_config import ParameterRange, Params, SearchConfig, Value

OPTUNA_AT_ONCE = 8
"""Candidates per request to optuna: more of them keep more processes busy, fewer let it learn sooner."""

DRAWS_PER_CANDIDATE = 100
"""After this many draws per candidate, the space is assumed to hold no other candidates."""

Tried = tuple[Params, float | None]
"""A candidate with its loss; None if it failed."""


def propose(config: SearchConfig, tried: Sequence[Tried]) -> list[Params]:
    """Returns the candidates to try next, without repetitions; empty when the search is over."""
    if config.search == "optuna":
        return _ask_optuna(config, tried)
    if tried:
        return []
    return _grid(config) if config.search == "grid" else _drawn(config)


def _grid(config: SearchConfig) -> list[Params]:
    lists = config.grid()
    return _different(dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values()))


def _drawn(config: SearchConfig) -> list[Params]:
    dice = random.Random(config.seed)  # noqa: S311 - nothing is kept secret by it
    draws = ({name: _draw(values, dice) for name, values in config.parameters.items()} for _ in itertools.count())
    return _different(itertools.islice(draws, DRAWS_PER_CANDIDATE * config.count), config.count)


def _draw(values: list[Value] | ParameterRange, dice: random.Random) -> Value:
    if isinstance(values, list):
        return values[dice.randrange(len(values))]
    if values.is_whole and not values.log:
        return dice.randint(int(values.low), int(values.high))
    # widened by half a step at both ends, so that the end values are as likely as the others
    low, high = (values.low - 0.5, values.high + 0.5) if values.is_whole else (values.low, values.high)
    drawn = math.exp(dice.uniform(math.log(low), math.log(high))) if values.log else dice.uniform(low, high)
    drawn = min(max(drawn, values.low), values.high)
    return round(drawn) if values.is_whole else drawn


def _different(candidates: Iterable[Params], count: int | None = None) -> list[Params]:
    found: dict[str, Params] = {}
    for params in candidates:
        found.setdefault(_key(params), params)
        if len(found) == count:
            break
    return list(found.values())


def _key(params: Params) -> str:
    return json.dumps(params, sort_keys=True)


def _ask_optuna(config: SearchConfig, tried: Sequence[Tried]) -> list[Params]:
    """Returns the next suggestions of optuna's tree-structured Parzen estimator, given the results of all candidates so far."""
    try:
        import optuna  # noqa: PLC0415 - an extra: only who searches with it needs it
    except ImportError:
        raise RequestError(
            "optuna is not installed on the worker", next_step="Type: pip install .[optuna]; or choose search: random"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    wanted = min(OPTUNA_AT_ONCE, config.count - len(tried))
    if wanted <= 0:
        return []
    spaces = {name: _space(values, optuna.distributions) for name, values in config.parameters.items()}
    sampler = optuna.samplers.TPESampler(seed=config.seed + len(tried), constant_liar=True)
    study = optuna.create_study(sampler=sampler)
    for params, loss in tried:
        state = optuna.trial.TrialState.FAIL if loss is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(state=state, params=params, distributions=spaces, value=loss))
    known = {_key(params) for params, _ in tried}
    asked = (study.ask(spaces).params for _ in range(DRAWS_PER_CANDIDATE))
    return _different((params for params in asked if _key(params) not in known), wanted)


def _space(values: list[Value] | ParameterRange, distributions: Any) -> Any:  # noqa: ANN401 - optuna's own
    if isinstance(values, list):
        return distributions.CategoricalDistribution(values)
    kind = distributions.IntDistribution if values.is_whole else distributions.FloatDistribution
    return kind(values.low, values.high, log=values.log)
