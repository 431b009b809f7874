"""What every resource has that asks models; used by chat, completions, responses and graders."""

from services.gateway.model_names import ModelNames
from services.gateway.peers import Peers
from services.gateway.settings import GatewaySettings


class Asking:
    """Whom it asks, the names of models, and the limits of one request."""

    def __init__(self, peers: Peers, settings: GatewaySettings, names: ModelNames) -> None:
        self._names = names
        self._peers = peers
        self._max_body = settings.max_body_bytes
        self._seconds = settings.chat_timeout.total_seconds()
