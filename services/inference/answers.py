"""What is answered: domain to proto; used by the servicer."""

from collections.abc import Iterable, Sequence

from services.common.errors import ServiceError
from services.common.interceptors import logged
from services.inference.generation import Delta, Ending, FinishReason, Piece
from services.inference.registry import LoadedModel
from services.inference.scoring import Score
from services.inference.side_by_side import Failed
from services.inference.told import Told
from services.inference.tools import ToolCall
from tunesmith.v1 import inference_service_pb2 as pb2
from tunesmith.v1.task_error_pb2 import ErrorClass

_FINISH_REASONS = {
    FinishReason.STOP: pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: pb2.FINISH_REASON_TOOL_CALLS,
}


class Endings:
    """The endings of `count` answers as they come; the last one brings the usage of all."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self._endings: list[Ending] = []

    def usage(self, ending: Ending) -> pb2.ChatUsage | None:
        """Of all answers together once this was the last; None before."""
        self._endings.append(ending)
        return _usage(self._endings) if len(self._endings) == self._missing else None


def chat_response(model: str, pieces: Sequence[tuple[int, Piece]], count: int) -> pb2.ChatResponse:
    """`count` whole answers from all of their pieces."""
    choices = [_chat_choice(index, _of(index, pieces)) for index in range(count)]
    first = choices[0]
    return pb2.ChatResponse(
        model=model, message=first.message, finish_reason=first.finish_reason, usage=_usage(_endings(pieces)), choices=choices
    )


def stream_response(index: int, piece: Piece, endings: Endings) -> pb2.StreamChatResponse:
    """One message of streamed answers."""
    if isinstance(piece, Ending):
        reason, usage = _FINISH_REASONS[piece.finish_reason], endings.usage(piece)
        return pb2.StreamChatResponse(index=index, finish_reason=reason, usage=usage)
    return pb2.StreamChatResponse(index=index, delta=piece.text, logprobs=_logprobs(piece.tokens), tool_calls=_calls(piece.calls))


def compare_response(index: int, piece: Piece | Failed) -> pb2.CompareChatResponse:
    """One message of several models' streamed answers; a failure is logged."""
    if isinstance(piece, Failed):
        return pb2.CompareChatResponse(index=index, finish_reason=pb2.FINISH_REASON_FAILED, error=_error(logged(piece.error)))
    if isinstance(piece, Ending):
        return pb2.CompareChatResponse(index=index, finish_reason=_FINISH_REASONS[piece.finish_reason], usage=_usage([piece]))
    return pb2.CompareChatResponse(
        index=index, delta=piece.text, logprobs=_logprobs(piece.tokens), tool_calls=_calls(piece.calls)
    )


def complete_response(model: str, pieces: Sequence[tuple[int, Piece]], count: int) -> pb2.CompleteResponse:
    """`count` whole texts from all of their pieces."""
    choices = [_completion_choice(index, _of(index, pieces)) for index in range(count)]
    return pb2.CompleteResponse(model=model, choices=choices, usage=_usage(_endings(pieces)))


def stream_complete_response(index: int, piece: Piece, endings: Endings) -> pb2.StreamCompleteResponse:
    """One message of streamed texts."""
    if isinstance(piece, Ending):
        reason, usage = _FINISH_REASONS[piece.finish_reason], endings.usage(piece)
        return pb2.StreamCompleteResponse(index=index, finish_reason=reason, usage=usage)
    return pb2.StreamCompleteResponse(index=index, text=piece.text, logprobs=_logprobs(piece.tokens))


def score_response(model: str, score: Score) -> pb2.ScoreChatResponse:
    """How probable a conversation is."""
    return pb2.ScoreChatResponse(
        model=model,
        tokens=_logprobs(score.tokens),
        total_logprob=score.total,
        loss=score.loss,
        conversation_tokens=score.conversation_tokens,
    )


def loaded_model(loaded: LoadedModel) -> pb2.LoadedModel:
    """A model in memory."""
    message = pb2.LoadedModel(
        model=loaded.name, base_model=loaded.base_model, memory_bytes=loaded.memory_bytes, pinned=loaded.pinned
    )
    message.load_time.FromDatetime(loaded.load_time)
    if loaded.last_use_time:
        message.last_use_time.FromDatetime(loaded.last_use_time)
    return message


def _error(error: ServiceError) -> pb2.AnswerError:
    error_class = ErrorClass.Value(f"ERROR_CLASS_{error.error_class.name}")
    return pb2.AnswerError(reason=error.reason, message=error.message, error_class=error_class, hint=error.hint)


def _of(index: int, pieces: Sequence[tuple[int, Piece]]) -> list[Piece]:
    return [piece for own, piece in pieces if own == index]


def _endings(pieces: Sequence[tuple[int, Piece]]) -> list[Ending]:
    return [piece for _, piece in pieces if isinstance(piece, Ending)]


def _deltas(pieces: Iterable[Piece]) -> list[Delta]:
    return [piece for piece in pieces if isinstance(piece, Delta)]


def _reason(pieces: Sequence[Piece]) -> pb2.FinishReason.ValueType:
    ending = pieces[-1]
    assert isinstance(ending, Ending)
    return _FINISH_REASONS[ending.finish_reason]


def _chat_choice(index: int, pieces: Sequence[Piece]) -> pb2.ChatChoice:
    deltas = _deltas(pieces)
    calls = [call for delta in deltas for call in _calls(delta.calls)]
    message = pb2.ChatMessage(role="assistant", content="".join(delta.text for delta in deltas), tool_calls=calls)
    logprobs = [token for delta in deltas for token in _logprobs(delta.tokens)]
    return pb2.ChatChoice(index=index, message=message, finish_reason=_reason(pieces), logprobs=logprobs)


def _completion_choice(index: int, pieces: Sequence[Piece]) -> pb2.CompletionChoice:
    deltas = _deltas(pieces)
    text = "".join(delta.text for delta in deltas)
    logprobs = [token for delta in deltas for token in _logprobs(delta.tokens)]
    return pb2.CompletionChoice(index=index, text=text, finish_reason=_reason(pieces), logprobs=logprobs)


def _calls(calls: Iterable[ToolCall]) -> list[pb2.ToolCall]:
    return [pb2.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in calls]


def _logprobs(tokens: Iterable[Told]) -> list[pb2.TokenLogprob]:
    return [
        pb2.TokenLogprob(
            token=token.text,
            token_id=token.id,
            bytes=token.bytes,
            logprob=token.logprob,
            top=map(_top, token.top),
        )
        for token in tokens
    ]


def _top(token: Told) -> pb2.TopLogprob:
    return pb2.TopLogprob(token=token.text, token_id=token.id, bytes=token.bytes, logprob=token.logprob or 0.0)


def _usage(endings: Sequence[Ending]) -> pb2.ChatUsage:
    """The prompt is counted once."""
    usage = pb2.ChatUsage(
        prompt_tokens=endings[0].prompt_tokens, completion_tokens=sum(ending.completion_tokens for ending in endings)
    )
    usage.time_to_first_token.FromMicroseconds(round(min(ending.seconds_to_first_token for ending in endings) * 1e6))
    usage.total_time.FromMicroseconds(round(max(ending.total_seconds for ending in endings) * 1e6))
    return usage
