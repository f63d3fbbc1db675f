"""Whether an answer says the words of the ground truth, and whether its own words come from the contexts."""

from __future__ import annotations

from collections import Counter

from .inputs import answer_of, contexts_of, ground_truth_by
from .sample import Sample, Undefined
from .words import joined_tokens, occurring, terms

__all__ = ["exact_match", "grounded_token_ratio", "string_presence", "token_f1"]

_ARTICLES = frozenset({"a", "an", "the"})


def exact_match(sample: Sample) -> float:
    """1 where answer and ground truth are the same tokens in the same order, else 0.

    The normalisation is that of SQuAD (Rajpurkar et al., EMNLP 2016): no case, no signs, no English articles. Two
    things differ. A number is a token of its own and keeps its point and its minus, so that 3.14 is not 314. Articles
    stay where one of the texts has nothing else: the answer "A" may name a choice. Chinese is compared by character, as
    in CMRC 2018 (Cui et al., EMNLP 2019), so its spaces don't count.

    Args:
        sample: Needs answer and ground_truth.

    Returns:
        0 or 1; 0 for an empty answer.

    Raises:
        Undefined: The ground truth has no token.
    """
    answer, truth = _compared(sample)
    return float(answer == truth)


def token_f1(sample: Sample) -> float:
    """How many tokens answer and ground truth share, whatever their order.

    With n common tokens, each as often as both have it, among a of the answer and t of the ground truth:

        P = n / a,   R = n / t,   F1 = 2 P R / (P + R) = 2 n / (a + t).

    SQuAD's F1 (Rajpurkar et al., EMNLP 2016), with the tokens of ``exact_match``. CMRC 2018 has the same characters of
    Chinese, but counts the longest common substring.

    Args:
        sample: Needs answer and ground_truth.

    Returns:
        From 0, also for an empty answer, to 1; the same with answer and ground truth exchanged.

    Raises:
        Undefined: The ground truth has no token.
    """
    answer, truth = _compared(sample)
    common = (Counter(answer) & Counter(truth)).total()
    return 2 * common / (len(answer) + len(truth))


def string_presence(sample: Sample) -> float:
    """1 where the tokens of the ground truth stand in the answer one after another, else 0.

    The tokens are those of ``exact_match``. So a word must be there whole ("art" isn't in "a party"), and a number, too
    (3 isn't in 3.14); in Chinese any neighbouring characters will do. Named as in RAGAS, which searches the raw text.

    Args:
        sample: Needs answer and ground_truth.

    Returns:
        0 or 1; 0 for an empty answer.

    Raises:
        Undefined: The ground truth has no token.
    """
    answer, truth = _compared(sample)
    return float(f" {' '.join(truth)} " in f" {' '.join(answer)} ")


def grounded_token_ratio(sample: Sample) -> float:
    """The share of what the answer says that some context says, too: no judge, but made-up names and numbers show.

        number of the answer's terms, each time it says them, that occur in any context / number of its terms.

    The terms are tokens without function words, which any context holds: with "the" and "is" an answer would be half
    grounded in a text on anything else. In Chinese they are pairs of neighbouring characters for the same reason
    (``words.terms``). An answer of function words alone is taken by these. Our own definition; the nearest one is
    K-Precision of Adlakha et al. (TACL 12, 2024), which counts function words, too.

    Args:
        sample: Needs answer and contexts; their order doesn't matter.

    Returns:
        From 0 to 1.

    Raises:
        Undefined: The answer has no token.
    """
    said = terms(answer_of(sample))
    contexts = contexts_of(sample)
    if not said:
        raise Undefined("The answer has no words.")
    known: set[str] = set().union(*map(occurring, contexts))
    return sum(term in known for term in said) / len(said)


def _compared(sample: Sample) -> tuple[list[str], list[str]]:
    answer = joined_tokens(answer_of(sample))
    truth = ground_truth_by(sample, joined_tokens)
    answer_alone = [token for token in answer if token not in _ARTICLES]
    truth_alone = [token for token in truth if token not in _ARTICLES]
    return (answer_alone, truth_alone) if answer_alone and truth_alone else (answer, truth)
