"""Proto to domain and back; used by the servicer."""

from services.inference.generation import Delta, Ending, FinishReason, Piece
from services.inference.question import DEFAULT_MAX_TOKENS, Message, Question
from services.inference.registry import LoadedModel
from tunesmith.v1 import inference_service_pb2 as pb2

_FINISH_REASONS = {FinishReason.STOP: pb2.FINISH_REASON_STOP, FinishReason.LENGTH: pb2.FINISH_REASON_LENGTH}


def question(request: pb2.ChatRequest | pb2.StreamChatRequest | pb2.CompareChatRequest) -> Question:
    """What is asked, with the defaults for what was left unset; a comparison names no model yet."""
    return Question(
        model="" if isinstance(request, pb2.CompareChatRequest) else request.model,
        messages=tuple(Message(message.role, message.content) for message in request.messages),
        temperature=request.temperature if request.HasField("temperature") else 0.0,
        top_p=request.top_p if request.HasField("top_p") else 1.0,
        max_tokens=request.max_tokens if request.HasField("max_tokens") else DEFAULT_MAX_TOKENS,
        seed=request.seed if request.HasField("seed") else None,
        stop=tuple(request.stop),
        top_k=request.top_k,
        min_p=request.min_p,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        repetition_penalty=request.repetition_penalty if request.HasField("repetition_penalty") else 1.0,
        logit_bias=tuple(sorted(request.logit_bias.items())),
    )


def chat_response(model: str, pieces: list[Piece]) -> pb2.ChatResponse:
    """A whole answer from all of its pieces."""
    *deltas, ending = pieces
    assert isinstance(ending, Ending)
    text = "".join(delta.text for delta in deltas if isinstance(delta, Delta))
    message = pb2.ChatMessage(role="assistant", content=text)
    return pb2.ChatResponse(
        model=model, message=message, finish_reason=_FINISH_REASONS[ending.finish_reason], usage=_usage(ending)
    )


def stream_response(piece: Piece) -> pb2.StreamChatResponse:
    """One message of a streamed answer."""
    if isinstance(piece, Delta):
        return pb2.StreamChatResponse(delta=piece.text)
    return pb2.StreamChatResponse(finish_reason=_FINISH_REASONS[piece.finish_reason], usage=_usage(piece))


def compare_response(index: int, piece: Piece) -> pb2.CompareChatResponse:
    """One message of several streamed answers."""
    if isinstance(piece, Delta):
        return pb2.CompareChatResponse(index=index, delta=piece.text)
    return pb2.CompareChatResponse(index=index, finish_reason=_FINISH_REASONS[piece.finish_reason], usage=_usage(piece))


def loaded_model(loaded: LoadedModel) -> pb2.LoadedModel:
    """A model in memory."""
    message = pb2.LoadedModel(model=loaded.name, base_model=loaded.base_model, memory_bytes=loaded.memory_bytes)
    message.load_time.FromDatetime(loaded.load_time)
    if loaded.last_use_time:
        message.last_use_time.FromDatetime(loaded.last_use_time)
    return message


def _usage(ending: Ending) -> pb2.ChatUsage:
    usage = pb2.ChatUsage(prompt_tokens=ending.prompt_tokens, completion_tokens=ending.completion_tokens)
    usage.time_to_first_token.FromMicroseconds(round(ending.seconds_to_first_token * 1e6))
    usage.total_time.FromMicroseconds(round(ending.total_seconds * 1e6))
    return usage
