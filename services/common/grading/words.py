"""What of a text counts when texts are compared."""

import json
import re
import unicodedata

_EDGES = " \t\r\n.,;:!?\"'`"
# Scripts without spaces between words: every character is a word.
_SINGLE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SINGLE}]|[^\W{_SINGLE}]+")


def normalised(text: str) -> str:
    """The text for comparison: Unicode NFKC, no case, single spaces, no quotes or punctuation at either end.

    A JSON object or list is compared by what it says: spaces and the order of keys do not count, case does.
    """
    if (value := json_value(text)) is not None and isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_EDGES)


def words(text: str) -> list[str]:
    """Runs of letters and digits without case; of Chinese and Japanese every character."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def json_value(text: str) -> object | None:
    """The JSON value a text is, None when it is none; NaN and Infinity are not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)  # type: ignore[no-any-return]
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
