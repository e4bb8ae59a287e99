"""What both clients do around sending: build, count attempts, explain, read."""

from collections.abc import Iterable, Sequence
from typing import Any

from serving.client.answers import Recommendations, read_answers
from serving.client.connection import Headers, metadata, target
from serving.client.errors import RecommendError, explain
from serving.client.requests import Rows, build_request
from serving.client.retries import Attempts, RetryBudget, RetryPolicy
from serving.embedded.routes import VERSION_HEADER

# Longer than any id that means something, and far below the 16 KiB of metadata that gRPC accepts:
# a header beyond breaks the connection, and with it the calls of everybody who shares it.
_MAX_ID_HEADER = 128


class Core:
    """An endpoint's address, the deadline and the retries of one client."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        retries: RetryPolicy | None,
        headers: Headers | None = None,
    ) -> None:
        self.url, self.timeout_s, self.headers = target(url), timeout_s, headers
        self.policy = retries or RetryPolicy()
        self.budget = RetryBudget(self.policy)

    def begin(
        self,
        user_ids: Sequence[str] | None,
        histories: Rows | None,
        excludes: Rows | None,
        k: int | None,
        request_id: str | None,
        timeout_s: float | None,
        history_times: Sequence[Sequence[int]] | None = None,
    ) -> "Call":
        """One call; its deadline counts from now.

        Raises:
            ValueError: as `build_request`.
        """
        request = build_request(user_ids, histories, excludes, k, request_id, history_times)
        return Call(self, request, self.timeout_s if timeout_s is None else timeout_s)


class Call:
    """One call, over all of its attempts."""

    def __init__(self, core: Core, request: Any, timeout_s: float) -> None:
        self.request = request
        self.rows = request.inputs[0].shape[0]
        self._core, self._timeout_s = core, timeout_s
        self._attempts = Attempts(core.policy, core.budget, timeout_s)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """The client's headers, and the request's id where gateways look for it and note it."""
        name = self.request.id
        fits = name.isascii() and name.isprintable() and 0 < len(name) <= _MAX_ID_HEADER
        return metadata(self._core.headers) + ([("x-request-id", name)] if fits else [])

    def next_timeout_s(self) -> float:
        """Begin an attempt; its deadline in seconds."""
        return self._attempts.next_timeout_s()

    def wait_after(self, error: Any) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            RecommendError: from `error`, a grpc.RpcError, if there is to be none.
        """
        code, details = error.code().name, error.details() or ""
        wait = self._attempts.wait_after(code)
        if wait is None:
            raise explain(
                self._core.url,
                code,
                details,
                timeout_s=self._timeout_s,
                attempts=self._attempts.made,
            ) from error
        return wait

    def read(self, response: Any, metadata: Iterable[tuple[str, Any]]) -> list[Recommendations]:
        """The answers of a response that came with `metadata`.

        Raises:
            RecommendError: it is not a `recommend` model's.
        """
        self._core.budget.earn()
        try:
            return read_answers(response, dict(metadata).get(VERSION_HEADER))
        except ValueError as error:
            message = f"{self._core.url} answers, but not as a recommend endpoint: {error}"
            raise RecommendError(message, "UNKNOWN") from error
