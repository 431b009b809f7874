"""LlamaIndex: `OpenAILike`, whole and streamed, chat and completion."""

import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

common = {"model": os.environ["MODEL"], "temperature": 0, "max_tokens": 8}
common |= {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
chat = OpenAILike(is_chat_model=True, **common)
messages = [ChatMessage(role="user", content="number 3")]
whole = chat.chat(messages).message.content or ""
assert "".join(piece.delta or "" for piece in chat.stream_chat(messages)) == whole
assert OpenAILike(is_chat_model=False, **common).complete("number 3").text is not None
print(json.dumps(["chat", "stream", "completions"]))
