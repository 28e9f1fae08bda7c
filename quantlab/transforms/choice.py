"""Which factors: for every group of channels that can be scaled, an exponent by a local estimate of the noise.

d[i] = max(reach[i] / largest reach, floor)^alpha: with alpha = 1 all channels of a tensor reach equally far, with 0
nothing changes, and what lies between leaves a part of the differences to the weights that read them, as SmoothQuant
does. The floor keeps channels from a factor that what little was seen of them does not bear out.
Groups are chosen one by one, in the order of the network and twice, each given the choice of the others: a Concat or a
residual sum of several groups has one scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from quantlab.transforms.channels import Channels, Ids
from quantlab.transforms.noise import Factors, Floats, Reach, Site

ALPHAS = (0.25, 0.5, 0.75, 1.0)
FLOORS = (1 / 64, 1 / 16, 1 / 4, 1 / 2)
"""What is smaller than the first adds nothing that INT8 can tell apart."""
CANDIDATES = ((0.0, 1.0), *((alpha, floor) for alpha in ALPHAS for floor in FLOORS))
_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Choice:
    """A group of channels whose factors have one exponent.

    Attributes:
        variables: Those of the group.
        alpha: The exponent.
        ratio: Of the largest factor to the smallest.
        gain_db: What it brings where its noise enters, by the estimate.
    """

    variables: Ids
    alpha: float
    ratio: float
    gain_db: float


def choose(
    channels: Channels, roots: Ids, shared: Mapping[str, Reach], sites: Sequence[Site]
) -> tuple[Floats, list[Choice]]:
    """Choose the factors.

    Args:
        channels: The variables.
        roots: Variable -> the one that stands for it.
        shared: Quantized tensor -> what its scale follows from.
        sites: Where noise enters.

    Returns:
        Variable -> its factor, float64, and the groups that have factors other than 1.
    """
    relative, left_out = (_relative(len(roots), shared, which) for which in (False, True))
    alpha, floor = np.zeros(len(roots)), np.ones(len(roots))
    groups = [group for group in _groups(channels, roots) if relative[group].min(initial=1) < 1]
    heard = [[site for site in sites if np.isin(site.variables(), group).any()] for group in groups]

    def factors() -> Factors:
        return Factors(*(np.maximum(one, floor) ** alpha for one in (relative, left_out)))

    def cost(k: int, candidate: tuple[float, float]) -> float:
        alpha[groups[k]], floor[groups[k]] = candidate
        given = factors()
        return sum(site.cost(given) for site in heard[k])

    chosen = [CANDIDATES[0]] * len(groups)
    for _ in range(_ROUNDS):
        for k in range(len(groups)):
            costs = [cost(k, candidate) for candidate in CANDIDATES]
            chosen[k] = CANDIDATES[int(np.argmin(costs))]
            alpha[groups[k]], floor[groups[k]] = chosen[k]
    d = factors().d
    choices = []
    for k, group in enumerate(groups):
        if chosen[k][0]:
            before, after = cost(k, CANDIDATES[0]), cost(k, chosen[k])
            gain = float(10 * np.log10(before / after)) if after > 0 else 0.0
            choices.append(Choice(group, chosen[k][0], float(d[group].max() / d[group].min()), gain))
    return d[roots], choices


def _relative(count: int, shared: Mapping[str, Reach], left_out: bool) -> Floats:
    """Variable -> how far its channels reach, of the farthest that share a scale with them; the largest of several.
    1 for what is frozen, dead, or nowhere quantized."""
    found, seen = np.zeros(count), np.zeros(count)
    for one in shared.values():
        largest = one.reach.max(initial=0)
        if largest > 0:
            np.maximum.at(found, one.ids, (one.second if left_out else one.reach) / largest)
            np.maximum.at(seen, one.ids, one.reach)
    is_free = seen > 0
    is_free[0] = False
    return np.where(is_free, found, 1.0)


def _groups(channels: Channels, roots: Ids) -> list[Ids]:
    """The variables that the same layers made, or layers whose channels are tied; without the frozen ones."""
    first: dict[int, int] = {}
    parent = list(range(len(channels.made)))

    def top(k: int) -> int:
        while parent[k] != k:
            k = parent[k]
        return k

    for k, ids in enumerate(channels.made):
        for root in np.unique(roots[ids]).tolist():
            if root:
                a, b = sorted((top(k), top(first.setdefault(root, k))))
                parent[b] = a
    members: dict[int, set[int]] = {}
    for root, k in first.items():
        members.setdefault(top(k), set()).add(root)
    return [np.array(sorted(members[k])) for k in sorted(members)]
