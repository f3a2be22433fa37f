"""What an answer in words says: which number, which letter of a multiple choice, yes or no."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_SAME_NUMBER = 1e-9
"""Of a number, by which another may be off and be the same: 0.1 + 0.2 and 0.3."""
LONGEST = 20_000
"""Characters of an answer that are read, its last ones."""

_UNITS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_MINUS = ("minus", "negative")
_WORDS = {word: i for i, word in enumerate(_UNITS.split())} | {word: 10 * i for i, word in enumerate(_TENS, 2)}
_POWERS = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_PARTS = {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4, "fifth": 1 / 5, "tenth": 1 / 10}
_PARTS |= {f"{word}s": value for word, value in _PARTS.items()} | {"halves": 1 / 2}
_GLYPHS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8"}
_SAME = str.maketrans({"\u2212": "-", "\u2013": "-"} | {k: f" {v}" for k, v in _GLYPHS.items()})

_LATEX = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_SIGN = r"(?:(?<![\w.)])(?P<{0}>[-+]|(?<!\d )(?:minus|negative)\b) ?)?[$€£¥]?"
_DIGITS = r"(?<!\d)(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+"
_FRACTION = r"(?<![\d/.])(?:(?P<whole>\d+) (?:and )?)?(?P<top>\d+) ?/ ?(?P<bottom>\d+)(?![\d/])"
_DECIMAL = rf"(?P<value>(?:{_DIGITS})(?:e[-+]?\d+(?!\w))?)(?: ?(?:[x×*]|\\times) ?10 ?\^ ?\{{?(?P<power>[-+]?\d+)\}}?)?"
_NUMBER = re.compile(
    f"{_SIGN.format('minus')}{_FRACTION}|{_SIGN.format('sign')}{_DECIMAL}(?: ?(?P<big>{'|'.join(_POWERS)})\\b)?"
)
_PERCENT = re.compile(r" ?(?:\\?%|per\s?cent\b)")
_MARK = re.compile(r"\\boxed ?\{|\b(?:answer|total)(?: is| ?:)|####|=")
_NAMES = "|".join(sorted([*_WORDS, "dozen", *_POWERS, *_PARTS, *_MINUS], key=len, reverse=True))
_SPELLED = re.compile(rf"\b(?:{_NAMES})\b(?:(?: ?- ?| and a | and | a | )(?:{_NAMES})\b)*")


@dataclass(frozen=True)
class Number:
    """percent: whether it was said as one; 50 % is then 50."""

    value: float
    percent: bool = False

    def near(self, target: Number, tolerance: float) -> bool:
        """Whether it is within `tolerance` times the target of the target. Where one of both is a percentage, it may
        stand for itself or for its hundredth."""
        mine, other = {self.value}, {target.value}
        if self.percent != target.percent:
            percent = mine if self.percent else other
            percent |= {value / 100 for value in percent}
        return any(
            math.isclose(a, b, rel_tol=0.0, abs_tol=tolerance * abs(b) + 1e-9 * abs(b)) for a in mine for b in other
        )


def number_of(text: str) -> Number | None:
    """The number that an answer gives; None where it holds none.

    It is the first one behind the last "answer is", "answer:", "total is", "=", "####" or in \\boxed{…}; where there is
    none of these, the last one in digits, else the last one in words. Understood: 1,234.5 · -3 · 1/2 · 3 1/2 · ½ ·
    \\frac{1}{2} · 1e-3 · 2 × 10^3 · 3 million · 50 % · $5 · twenty-one · one hundred and five · half · three quarters ·
    two and a half · minus two · a dozen. Units are not read: 3 cm is 3 m. Not understood: decimal commas, ordinals,
    Roman numerals.
    """
    text = _LATEX.sub(r" \1/\2", _one_line(text).replace("{,}", ",").translate(_SAME).lower())
    if marks := list(_MARK.finditer(text)):
        said = text[marks[-1].end() :]
        said = said.partition("}")[0] if marks[-1][0].endswith("{") else said
        if found := min([*_in_digits(said), *_in_words(said)], key=lambda found: found[0], default=None):
            return found[1]
    found = next(reversed(list(_in_digits(text)) or list(_in_words(text))), None)
    return None if found is None else found[1]


def _one_line(text: str) -> str:
    return " ".join(text[-LONGEST:].split())


def _in_digits(text: str) -> Iterator[tuple[int, Number]]:
    """The numbers in digits, and where each begins."""
    for match in _NUMBER.finditer(text):
        value = _fraction(match) if match["top"] else _decimal(match)
        if math.isfinite(value):
            negative = not {"-", *_MINUS}.isdisjoint((match["minus"], match["sign"]))
            yield match.start(), Number(-value if negative else value, bool(_PERCENT.match(text, match.end())))


def _fraction(match: re.Match[str]) -> float:
    bottom = float(match["bottom"])
    return float(match["whole"] or 0) + float(match["top"]) / bottom if bottom else math.nan


def _decimal(match: re.Match[str]) -> float:
    value = float(match["value"].replace(",", "")) * _POWERS.get(match["big"], 1.0)
    try:
        return value * 10.0 ** float(match["power"] or 0)
    except OverflowError:
        return math.inf


def _in_words(text: str) -> Iterator[tuple[int, Number]]:
    """The numbers in words, and where each begins."""
    for match in _SPELLED.finditer(text):
        value = _spelled(re.findall(r"[a-z]+", match[0]))
        if value is not None:
            yield match.start(), Number(value, bool(_PERCENT.match(text, match.end())))


def _spelled(words: Sequence[str]) -> float | None:
    """The last number in words of `_NAMES`, "and" and "a": two hundred and five; None where there is none."""
    done = part = 0.0  # what is complete, as 3,000 in three thousand and five, and what may yet be multiplied
    before, joined, sign = "", False, 1.0
    for word in words:
        if word in ("and", "a"):
            joined = True
            continue
        if word in _WORDS:
            grows = before in _POWERS or (before in _TENS and 1 <= _WORDS[word] <= 9)
            if before and not grows:  # another number begins
                done = part = 0.0
                sign = -1.0 if before in _MINUS else 1.0
            part += _WORDS[word]
        elif word in _MINUS:
            done, part, sign = 0.0, 0.0, -1.0
        elif word in _PARTS:
            if not before and word not in ("half", "quarter"):  # third and fifth are ordinals more often
                return None
            part = part * _PARTS[word] if before and not joined else part + _PARTS[word]
        else:
            part = (part or 1.0) * (12 if word == "dozen" else _POWERS[word])
            if word not in ("dozen", "hundred"):
                done, part = done + part, 0.0
        before, joined = word, False
    return None if before in ("", *_MINUS) else sign * (done + part)


_ALONE = re.compile(r"[(\[{$\\]*(?:(?:boxed|text)[{(]+)*([A-Za-z])[)\]}$.:,]*")
_FIRST = re.compile(r"[(\[]([A-Za-z])[)\]]|([A-Z])[.):](?!\w)")
_LETTER = (
    r":? ?(?i:option|choice|letter)? ?"
    r"(?:[(\[]([A-Za-z])[)\]]|([A-Z])(?![\w'’]))(?!,? (?:and|or) [(\[]?[A-Z]\b)"
)
_ANSWER = re.compile(rf"\b(?i:answer) ?(?i:is|:|=|would be|should be){_LETTER}")
_SAID = re.compile(rf"\b(?i:answer|option|choice) ?(?i:is|:|=|would be|should be)?{_LETTER}")
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?\(?([A-Za-z])\)?\.?\}")
_ANYWHERE = re.compile(r"[(\[]([A-Z])[)\]]|(?<![\w'’-])([B-HJ-Z])(?![\w'’-])|\b(A)(?=,| and | or )|(?<= or )(A)\b")
_EMPHASIS = str.maketrans(dict.fromkeys("*_`"))


def letter_of(text: str) -> str | None:
    """The letter of a multiple choice that an answer gives, in upper case; None where there is none, or several.

    Understood: B · (B) · B. · B. a dog · **B** · \\boxed{B} · the answer is B · option (b); else the only letter that
    stands by itself (A and I, which are words, in brackets alone).
    """
    text = _one_line(text.translate(_EMPHASIS))
    if match := _ALONE.fullmatch(text):
        return match[1].upper()
    for pattern in (_BOXED, _ANSWER, _SAID):
        if found := list(pattern.finditer(text)):
            return _letter(found[-1])
    if match := _FIRST.match(text):
        return _letter(match)
    letters = {_letter(match) for match in _ANYWHERE.finditer(text)}
    return letters.pop() if len(letters) == 1 else None


def _letter(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group).upper()


_YES_NO = re.compile(r"[a-z']+")
_DENIED = {"no", "not", "none", "nothing", "never", "neither", "cannot"}


def says_yes(text: str) -> bool | None:
    """Whether an answer says yes: its first word tells, else whether its first sentence holds a yes, a no or another
    negation ("there is not", "isn't"), as POPE reads it; None where it holds neither, or a yes and a no."""
    first = re.split(r"[.!?\n]", text.strip()[:LONGEST].lstrip("*_ "), maxsplit=1)[0].lower().replace("’", "'")
    words = _YES_NO.findall(first)
    if words and words[0] in ("yes", "no"):
        return words[0] == "yes"
    yes, no = "yes" in words, any(word in _DENIED or word.endswith("n't") for word in words)
    return None if yes == no else yes
