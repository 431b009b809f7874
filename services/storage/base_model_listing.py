"""Which base models a list holds, and in which order; used by the model servicer and the repository."""

import dataclasses
import datetime
import enum

from services.storage.base_model import BaseModel

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Order(enum.Enum):
    """What comes first; the values are names of ListBaseModelsRequest.Order."""

    ID = "ORDER_UNSPECIFIED"
    PARAMETERS = "PARAMETERS"
    NEWEST = "NEWEST"
    CONTEXT = "CONTEXT"


@dataclasses.dataclass(frozen=True, slots=True)
class BaseModelFilter:
    """Which base models; empty and 0 = any."""

    family: str = ""
    license: str = ""
    text: str = ""
    """Part of the id or of the display name."""
    max_parameter_count: int = 0
    trains_conversations: bool = False
    order: Order = Order.ID

    def holds(self, model: BaseModel) -> bool:
        """Whether the list holds it; upper and lower case are the same, but in the family."""
        return (
            self.family in ("", model.family)
            and self.license.lower() in ("", model.license.lower())
            and self.text.lower() in f"{model.id} {model.display_name}".lower()
            and (not self.max_parameter_count or model.parameter_count <= self.max_parameter_count)
            and not (self.trains_conversations and model.chat_template_problem)
        )

    def place(self, model: BaseModel) -> "Place":
        """Where it stands in the list."""
        numbers = {
            Order.ID: 0,
            Order.PARAMETERS: model.parameter_count,
            Order.NEWEST: -((model.create_time - _EPOCH) // datetime.timedelta(microseconds=1)),
            Order.CONTEXT: -model.context_length,
        }
        return Place(numbers[self.order], model.id)


EVERY_BASE_MODEL = BaseModelFilter()


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """Lists are sorted by a number, then by id."""

    number: int
    id: str
