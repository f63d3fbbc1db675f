"""Prompts, and data in them: what a context or an answer says is looked at, and never obeyed.

Two things keep data in its place. A block's delimiters hold a digest of the data, so the data can't hold them. And what
servers read as the marks of a chat template, in whatever message it stands (llama.cpp and others do), is changed in
the data by one character each, so that no turn ends inside a block.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from ...core.text import visible

__all__ = ["Prompt", "data_block", "neutral"]

_NAME = re.compile(r"[a-z][a-z0-9_ -]{0,39}")
_TAGS = "s|bos|eos|pad|unk|mask|sep|cls|think|tools?|sys|system|user|assistant|human|image|audio|video|unused[0-9]+"
_MARKS = (
    # <|im_start|>, and as DeepSeek writes it
    r"<(?=[|｜])"
    # <s>, </s>; <start_of_turn>, <tool_call>, <__media__>: no tag of HTML holds an underscore
    rf"|<(?=/?(?:{_TAGS}|[a-z]*_\w*)>)"
    # <<SYS>>
    r"|<(?=<\s*/?\s*sys\s*>>)"
)
# [INST], [/INST], [TOOL_CALLS], [gMASK]; and our own delimiters
_BRACKETS = (
    r"\[(?=/?(?:inst|gmask|smask|mask|cls|sep|pad|unk|img|think|args|call_id|prefix|suffix|middle|system_prompt"
    r"|(?:available_)?tools|tool_\w+|img_\w+)\])"
    r"|\[(?=\s*\[\s*(?:begin|end)\b)"
)
_ANGLE_MARKS, _BRACKET_MARKS = (re.compile(pattern, re.IGNORECASE) for pattern in (_MARKS, _BRACKETS))


@dataclass(frozen=True)
class Prompt:
    """What a judge is asked.

    Args:
        system: Who it is and what it has to do; no data.
        user: The question, with its data in blocks of ``data_block``.
        version: Of the prompt's wording. An answer is remembered for this version alone.
    """

    system: str
    user: str
    version: str


def data_block(name: str, text: str) -> str:
    """Data for a prompt, between delimiters that it can't hold.

    Args:
        name: What it is, in lower case, such as ``context 2``.
        text: What somebody else wrote.

    Raises:
        ValueError: The name is no plain word.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"a block's name is a plain word in lower case, not {name!r}")
    text = neutral(text)
    code = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"[[begin {name} {code}]]\n{text}\n[[end {name} {code}]]"


def neutral(text: str) -> str:
    """Text that no server takes for a mark of its chat template, and that can be encoded."""
    text = visible(text.replace("\r\n", "\n"), keep="\n\t")
    # Characters that no normalisation leads back to < and [.
    return _BRACKET_MARKS.sub("⟦", _ANGLE_MARKS.sub("‹", text))
