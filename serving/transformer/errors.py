"""What a request can end with, in the words of gRPC and of HTTP."""

from recommender.errors import KuberecError

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 413,  # of a message that is too large, by gRPC's own machinery
    "CANCELLED": 499,  # as gateways log it; nobody is there to read it
    "FAILED_PRECONDITION": 503,  # the server's state, not the client's request
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "INTERNAL": 500,
}
# Codes that count against a version. The transformer itself gives neither UNKNOWN nor
# RESOURCE_EXHAUSTED, but gRPC's own machinery can. What is not here is a client's mistake, a body
# that is too large among them, or a client that went away.
SERVICE_FAULTS = (
    "INTERNAL",
    "UNAVAILABLE",
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
)
CODES = ("OK", "UNKNOWN", *HTTP_STATUS)


class RequestFailed(KuberecError):
    """A request that is answered with an error; `code` is gRPC's name of its status."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def http_status(self) -> int:
        return HTTP_STATUS[self.code]


class BadRequest(RequestFailed):
    """The client's fault; the message names the tensor, the value and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "INVALID_ARGUMENT")


class TooLarge(BadRequest):
    """A body beyond the limit."""

    @property
    def http_status(self) -> int:
        return 413
