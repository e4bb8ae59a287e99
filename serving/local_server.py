"""What every started server of this machine has: a process, and two ports to ask it at."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from serving.ports import LOCAL
from serving.process import ProcessRef, alive


class LocalServer(BaseModel):
    """A started server: what is needed to reach it and to stop it, also from another process."""

    model_config = ConfigDict(frozen=True)

    process: ProcessRef
    http_port: int
    grpc_port: int
    log: Path

    @property
    def http_url(self) -> str:
        return f"{LOCAL}:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        return f"{LOCAL}:{self.grpc_port}"

    def alive(self) -> bool:
        return alive(self.process)
