"""What a client raises when there is no answer, with what to do about it."""

from recommender.errors import KuberecError

# gRPC's own words, where no connection could be made; what others say comes from who is there.
_NOBODY_THERE = ("failed to connect", "DNS resolution failed")


class RecommendError(KuberecError):
    """No answer: `code` is gRPC's status name, such as UNAVAILABLE or DEADLINE_EXCEEDED."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def explain(
    url: str, code: str, details: str, *, timeout_s: float, attempts: int = 1
) -> RecommendError:
    """The error for a status that a server or gRPC itself gave."""
    if code == "UNAVAILABLE" and "erification" in details:
        what = f"{url} shows a certificate of another name or of an unknown authority"
    elif code == "UNAVAILABLE" and details.startswith(_NOBODY_THERE):
        what = f"nothing answers at {url}; `kuberec serve` starts the endpoint"
    elif code == "UNAVAILABLE":
        what = f"{url} cannot answer now; try again, and see `kuberec status`"
    elif code == "DEADLINE_EXCEEDED":
        what = f"{url} did not answer within {timeout_s:g} s"
    elif code == "UNIMPLEMENTED":
        what = (
            f"{url} does not speak the Open Inference Protocol; is it the endpoint's address, and "
            "does a gateway there need its host name (authority=)?"
        )
    elif code == "UNAUTHENTICATED":
        what = f"{url} wants to know who asks: send an API key or a token (headers=)"
    elif code == "PERMISSION_DENIED":
        what = f"{url} does not let this API key or token in"
    elif code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "OUT_OF_RANGE"):
        what = f"{url} refused the request"
    else:
        what = f"{url} failed to answer"
    tries = f" after {attempts} attempts" if attempts > 1 else ""
    return RecommendError(f"{what} ({code}{tries}: {details})", code)
