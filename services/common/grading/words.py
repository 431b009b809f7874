"""What of a text counts when texts are compared."""

import json
import re
import unicodedata

_EDGES = " \t\r\n.,;:!?\"'`" + "。、·「」『』《》“”„‘’‚«»¿¡؟،؛۔।॥…"
# Scripts without spaces between words: every character is a word. Thai, Lao, Burmese and Khmer, then Japanese and Chinese.
_SINGLE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# What belongs to the letter before it, vowels of Indian scripts for example: all of it that is in daily use. Not in Python's \w.
_MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
_WORD = re.compile(rf"[{_SINGLE}][{_MARKS}]*|[^\W{_SINGLE}](?:[^\W{_SINGLE}]|[{_MARKS}])*")


def normalised(text: str) -> str:
    """The text for comparison: Unicode NFKC, no case, single spaces, no quotes or punctuation at either end.

    A JSON object or list is compared by what it says: spaces and the order of keys do not count, case does.
    """
    if isinstance(value := json_meaning(text), dict | list):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_EDGES)


def words(text: str) -> list[str]:
    """Runs of letters and digits without case; of scripts without spaces every character. Of a text with neither letters nor
    digits, an emoji for example, what stands between spaces."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(plain) or plain.split()


def json_value(text: str) -> object | None:
    """The JSON value a text is, None when it is none; NaN and Infinity are not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)  # type: ignore[no-any-return]
    except (ValueError, RecursionError):
        return None


def json_meaning(text: str) -> object | None:
    """The same for comparison: 1.0 is 1."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_number)  # type: ignore[no-any-return]
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
