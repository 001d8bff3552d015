"""Item-level permutation (PERM-BOTH) of agreement within prompts, for many pairs of judges at once.

A prompt's pairs of items are the bits of a few 64-bit words. For each pair of items there are four cases, by which of both
items is exchanged; the order of the two judges' scores in each case never changes. So a permutation only selects, bit by bit, among four
prepared words, and counting concordant and tied pairs is counting bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from t2i_eval_kedro.errors import T2IEvalError
from t2i_eval_kedro.statistics.kernels import Floats, Ints

MAX_GROUP = 64
"""Most items of a prompt: the exchanges of a prompt in one permutation are one word."""


def _bits_of_word(typing_context: Any, word: Any) -> Any:
    """The machine's own instruction for the number of set bits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), code


_count_bits: Any = intrinsic(_bits_of_word)


def item_permutation(
    scores: Sequence[Floats],
    y: Floats,
    groups: Sequence[Ints],
    pairs: Sequence[tuple[int, int]],
    permutations: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Differences of the mean tau-b and of the mean accuracy within prompts, after single items were exchanged at random.

    Args:
        scores: judges' scores, ``(n,)`` each, all on one scale.
        y: ``(n,)`` ratings.
        groups: positions of the items of each prompt, at most 64; prompts with fewer than 2 items are left out.
        pairs: indices of the judges to compare.
        permutations: number of permutations; every item is exchanged with probability one half.
        seed: random seed; the same items are exchanged for every pair.

    Returns:
        Two arrays ``(pairs, permutations)``: tau-b, averaged over the prompts in which it is defined, and accuracy.

    Raises:
        T2IEvalError: a prompt has more than 64 items.
    """
    members = [m for m in groups if len(m) > 1]
    if any(len(m) > MAX_GROUP for m in members):
        raise T2IEvalError(f"The item-level permutation takes at most {MAX_GROUP} items a prompt.")
    starts = np.r_[0, np.cumsum([len(m) for m in members])].astype(np.int64)
    order = np.concatenate(members)
    size = int(np.diff(starts).max())
    width = -(-(size * (size - 1) // 2) // 64)
    values = np.ascontiguousarray(np.stack([np.asarray(s, dtype=float)[order] for s in scores]))
    judges = len(scores)
    concordant = np.zeros((judges, judges, len(members), width), dtype=np.uint64)
    tied = np.zeros_like(concordant)
    people = np.zeros((len(members), width), dtype=np.uint64)
    _prepare(values, np.asarray(y, dtype=float)[order], starts, concordant, tied, people)
    # Bits are drawn for every place of a word; those beyond the prompt's items are never looked at.
    exchanges = np.random.default_rng(seed).integers(0, 2**64, size=(permutations, len(members)), dtype=np.uint64)
    tau, accuracy = np.zeros((len(pairs), permutations)), np.zeros((len(pairs), permutations))
    _swap_items(concordant, tied, people, starts, np.array(pairs, dtype=np.int64), exchanges, tau, accuracy)
    return tau, accuracy


@numba.njit(cache=True)
def _prepare(values, y, starts, concordant, tied, people):  # type: ignore[no-untyped-def]
    """Words of the ordered pairs of judges (first item scored by one, second by the other), and of the people's ties."""
    judges = len(values)
    for g in range(len(starts) - 1):
        bit = 0
        for i in range(starts[g], starts[g + 1]):
            for j in range(starts[g], i):
                word, mask = bit // 64, np.uint64(1) << np.uint64(bit % 64)
                bit += 1
                by_people = (y[i] > y[j]) - (y[i] < y[j])
                if by_people == 0:
                    people[g, word] |= mask
                for a in range(judges):
                    for b in range(judges):
                        by_judges = (values[a, i] > values[b, j]) - (values[a, i] < values[b, j])
                        if by_judges == 0:
                            tied[a, b, g, word] |= mask
                        elif by_judges == by_people:
                            concordant[a, b, g, word] |= mask


@numba.njit(cache=True)
def _swap_items(concordant, tied, people, starts, pairs, exchanges, tau, accuracy):  # type: ignore[no-untyped-def]
    width = people.shape[1]
    none, first, second, both = (
        np.zeros(width, np.uint64),
        np.zeros(width, np.uint64),
        np.zeros(width, np.uint64),
        np.zeros(width, np.uint64),
    )
    permutations = len(exchanges)
    defined = np.zeros((2, len(pairs), permutations), np.int64)
    taus = np.zeros((2, len(pairs), permutations))
    rights = np.zeros((2, len(pairs), permutations))
    roots = np.zeros(width * 64 + 1)
    for v in range(1, len(roots)):
        roots[v] = 1.0 / np.sqrt(v)
    for g in range(len(starts) - 1):
        size = starts[g + 1] - starts[g]
        total = size * (size - 1) // 2
        tied_y = np.int64(0)
        for w in range(width):
            tied_y += np.int64(_count_bits(people[g, w]))
        root_y = roots[total - tied_y]
        for d in range(permutations):
            word = exchanges[d, g]
            none[:] = 0
            first[:] = 0
            second[:] = 0
            both[:] = 0
            bit = 0
            for i in range(size):
                exchanged = (word >> np.uint64(i)) & np.uint64(1)
                for j in range(i):
                    w, place = bit >> 6, np.uint64(bit & 63)
                    bit += 1
                    other = (word >> np.uint64(j)) & np.uint64(1)
                    first[w] |= exchanged << place
                    second[w] |= other << place
            for w in range(width):
                both[w] = first[w] & second[w]
                none[w] = ~(first[w] | second[w])
                first[w] ^= both[w]
                second[w] ^= both[w]
            for p in range(len(pairs)):
                a, b = pairs[p, 0], pairs[p, 1]
                for side in range(2):
                    right = ties = shared = np.int64(0)
                    for w in range(width):
                        hit = (
                            (concordant[a, a, g, w] & none[w])
                            | (concordant[b, a, g, w] & first[w])
                            | (concordant[a, b, g, w] & second[w])
                            | (concordant[b, b, g, w] & both[w])
                        )
                        same = (
                            (tied[a, a, g, w] & none[w])
                            | (tied[b, a, g, w] & first[w])
                            | (tied[a, b, g, w] & second[w])
                            | (tied[b, b, g, w] & both[w])
                        )
                        right += np.int64(_count_bits(hit))
                        ties += np.int64(_count_bits(same))
                        shared += np.int64(_count_bits(same & people[g, w]))
                    rights[side, p, d] += (right + shared) / total
                    if ties < total and tied_y < total:
                        # Discordant: neither tied nor concordant.
                        net = 2 * right - (total - tied_y - ties + shared)
                        taus[side, p, d] += net * root_y * roots[total - ties]
                        defined[side, p, d] += 1
                    a, b = b, a
    groups = len(starts) - 1
    for p in range(len(pairs)):
        for d in range(permutations):
            one = taus[0, p, d] / defined[0, p, d] if defined[0, p, d] else np.nan
            other = taus[1, p, d] / defined[1, p, d] if defined[1, p, d] else np.nan
            tau[p, d] = one - other
            accuracy[p, d] = (rights[0, p, d] - rights[1, p, d]) / groups
