"""Texts that came as JSON, which can spell half a character; used before they go into messages or beside other texts."""


def encodable(text: str) -> str:
    """The text with every half of a character as JSON spells it: no encoding, and no field of a proto, can hold one."""
    return text.encode(errors="backslashreplace").decode()
