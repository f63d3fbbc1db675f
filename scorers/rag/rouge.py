"""ROUGE-L: the longest common subsequence of tokens, in any script and for long texts."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

from .inputs import answer_of, ground_truth_by
from .sample import Sample
from .words import runs

__all__ = ["rouge_l"]

# Of a text's tokens the masks of so many are kept: 6 MB with 100,000 tokens, and no rare one is asked for often.
_MASKS = 512


def rouge_l(sample: Sample) -> float:
    """How much of the ground truth the answer says in the same order.

    With l the length of the longest common subsequence of a tokens of the answer and t of the ground truth:

        P = l / a,   R = l / t,   F = 2 P R / (P + R).

    ROUGE-L of Lin, "ROUGE: a package for automatic evaluation of summaries" (ACL workshop, 2004), with the F-measure of
    the package rouge-score and without its stemmer. The tokens are those of ``words.runs``: of ASCII text the package's
    own, so the value is the same; of other scripts the package finds none.

    Args:
        sample: Needs answer and ground_truth.

    Returns:
        From 0, also for an empty answer, to 1; the same with answer and ground truth exchanged.

    Raises:
        Undefined: The ground truth has no token.
    """
    answer = runs(answer_of(sample))
    truth = ground_truth_by(sample, runs)
    common = _common_subsequence(truth, answer)
    if not common:
        return 0.0
    precision, recall = common / len(answer), common / len(truth)
    return 2 * precision * recall / (precision + recall)


def _common_subsequence(one: list[str], other: list[str]) -> int:
    """The length of the longest common subsequence, by the bits of whole numbers.

    After each token of the other list, bit i is 0 where the longest common subsequence grows at token i of the first.
    (Hyyrö, "Bit-parallel LCS-length computation revisited", AWOCA 2004.) A step costs as much as a few operations on a
    number of as many bits as there are tokens, so 100,000 tokens by 100,000 take a second or two, and no table.
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, token in enumerate(one):
        places[token].append(place)

    @lru_cache(_MASKS)
    def mask(token: str) -> int:
        bits = bytearray(len(one) // 8 + 1)
        for place in places[token]:
            bits[place >> 3] |= 1 << (place & 7)
        return int.from_bytes(bits, "little")

    everywhere = (1 << len(one)) - 1
    row = everywhere
    for token in other:
        if token in places:
            met = row & mask(token)
            row = (row + met | row - met) & everywhere
    return len(one) - row.bit_count()
