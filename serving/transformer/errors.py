"""What a request can end with, in the words of gRPC and of HTTP."""

from recommender.errors import KuberecError

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 413,
    "CANCELLED": 499,  # as gateways log it; nobody is there to read it
    "FAILED_PRECONDITION": 503,  # the server's state, not the client's request
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "INTERNAL": 500,
}


class RequestFailed(KuberecError):
    """A request that is answered with an error; `code` is gRPC's name of its status."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class BadRequest(RequestFailed):
    """The client's fault; the message names the tensor, the value and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "INVALID_ARGUMENT")
