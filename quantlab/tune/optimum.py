"""The best choice of regions under an additive estimate: a small integer programme, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quantlab.errors import MissingDependencyError
from quantlab.tune.latency import Choice, LatencyModel
from quantlab.version import install_command

GAP = 1e-6
"""Relative gap at which a solution counts as optimal."""
LIMIT_S = 20.0
"""After so long the best solution so far is taken: it is only what is measured next."""


def require_solver() -> None:
    """MissingDependencyError if there is no scipy."""
    try:
        import scipy.optimize  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("scipy is not installed", hint=install_command("tune")) from error


def fastest(model: LatencyModel, noise: Sequence[float], budget: float, fixed: Sequence[bool | None]) -> Choice | None:
    """The choice of the least estimated latency whose noise is within a budget.

    minimise   sum_r float_r (1 - x_r) + int8_r x_r + sum_b up_b u_b + down_b d_b
    subject to u_b >= x_target - x_source,  d_b >= x_source - x_target,  sum_r noise_r x_r <= budget,  x binary

    Args:
        model: Estimated times.
        noise: What INT8 in each region adds to the error of the outputs.
        budget: The largest sum of it.
        fixed: Per region what it must be; None where it is free.

    Returns:
        What is in INT8, per region; None if the budget cannot be kept.

    Raises:
        MissingDependencyError: There is no scipy.
    """
    require_solver()
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    regions, borders = len(model.float_us), model.regions.borders
    size = regions + 2 * len(borders)
    gain = np.asarray(model.int8_us) - np.asarray(model.float_us)
    entries = [  # x_source - x_target + u >= 0, and the other way round
        (row, column, value)
        for k, border in enumerate(borders)
        for row, sign in ((2 * k, 1), (2 * k + 1, -1))
        for column, value in ((border.source, sign), (border.target, -sign), (regions + row, 1))
    ]
    changes = [cost for pair in zip(model.into_int8_us, model.into_float_us, strict=True) for cost in pair]
    low, high = np.zeros(size), np.ones(size)
    for k, given in enumerate(fixed):
        if given is not None:
            low[k] = high[k] = float(given)
    if any(given and noise[k] > budget for k, given in enumerate(fixed)):
        return None
    for k, value in enumerate(noise):
        if value > budget and fixed[k] is None:
            high[k] = 0.0
    constraints = []
    if budget > 0:  # in units of the budget: noises are far below the solver's tolerances
        with np.errstate(over="ignore"):  # of a budget of next to nothing: more than all of it
            shares = np.minimum(np.asarray(noise, float) / budget, 2.0)
        total = np.concatenate([shares, np.zeros(2 * len(borders))])
        constraints.append(LinearConstraint(total[None], -np.inf, 1.0))
    if borders:
        row_at, column_at, values = zip(*entries, strict=True)
        rows = coo_array((values, (row_at, column_at)), shape=(2 * len(borders), size)).tocsr()
        constraints.append(LinearConstraint(rows, 0, np.inf))
    found = milp(
        np.concatenate([gain, changes]),
        integrality=np.r_[np.ones(regions), np.zeros(2 * len(borders))],
        bounds=Bounds(low, high),
        constraints=constraints,
        options={"mip_rel_gap": GAP, "time_limit": LIMIT_S},
    )
    return None if found.x is None else tuple(bool(value > 0.5) for value in found.x[:regions])
