"""A process that can be killed at any step: everything it uses counts its calls and fails for good when the fuse has burnt down.

A kill leaves no time to tidy up, so the clean-up of the code under test fails, too. A call counts twice, before and after: killed
before, it never happened; killed after, it did and nobody heard of it.
"""

import inspect
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """No error that anybody could handle."""


class Life:
    """How many steps are left; None = for ever."""

    def __init__(self) -> None:
        self.steps: int | None = None

    def step(self) -> None:
        if self.steps is None:
            return
        if self.steps <= 0:
            raise Killed
        self.steps -= 1


class Mortal:
    """Stands for `target`: its coroutines and generators live as long as `life` does."""

    def __init__(self, target: object, life: Life) -> None:
        self._target, self._life = target, life

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if inspect.iscoroutinefunction(value):
            return self._coroutine(value)
        return self._generator(value) if inspect.isasyncgenfunction(value) else value

    def _coroutine(self, call: Callable) -> Callable:
        async def mortal(*args: object, **kwargs: object) -> object:
            self._life.step()
            result = await call(*args, **kwargs)
            self._life.step()
            return result

        return mortal

    def _generator(self, call: Callable) -> Callable:
        async def mortal(*args: object, **kwargs: object) -> object:
            self._life.step()
            async for item in call(*args, **kwargs):
                yield item
                self._life.step()

        return mortal
