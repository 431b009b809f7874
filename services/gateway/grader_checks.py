"""Whether graders make sense, told in the caller's words; used by graders and evals."""

import re
from collections.abc import Sequence

from services.common.errors import InvalidArgument, Violation
from services.common.grading import checks
from services.common.grading.graders import Grader, Multi

_PLACE = re.compile(r"graders\[(\d+)\](.*)", re.DOTALL)
_KIND = re.compile(r"^\.(string_check|text_similarity|score_model|multi)\b")
_PART = re.compile(r"^\.graders\[(\d+)\]")
_NAMES = {
    ".metric": ".evaluation_metric",
    ".range_max": ".range",
    ".max_tokens": ".sampling_params.max_completions_tokens",
}


def refuse_senseless(graders: Sequence[Grader], paths: Sequence[str]) -> None:
    """Raises InvalidArgument naming everything that is wrong; `paths` say where each grader stands."""
    found = [
        Violation(_path(violation.field, graders, paths), violation.description)
        for violation in checks.violations(graders, "graders")
    ]
    if found:
        raise InvalidArgument(*found)


def _path(field: str, graders: Sequence[Grader], paths: Sequence[str]) -> str:
    """The caller's name of a field; of the whole list the place it begins at."""
    if not (match := _PLACE.fullmatch(field)):
        return paths[0].partition("[")[0]
    index = int(match[1])
    return paths[index] + _inside(match[2], graders[index])


def _inside(field: str, grader: Grader) -> str:
    field = _KIND.sub("", field)
    if isinstance(grader, Multi) and (part := _PART.match(field)):
        each = grader.graders[int(part[1])]
        return f".graders.{each.name}" + _inside(field[part.end() :], each)
    return _NAMES.get(field, field)
