"""A gateway without vLLM: `python -m tests.bench.fake_gateway [ENGINE_URL]`.

Its engine is the fake one, which runs in this process, or what answers at a URL, such as
`tests.bench.serve.stub_engine`. It reads the settings from the environment, as `weft serve` does,
and serves WEFT_HOME on WEFT_PORT.
Not covered: vLLM, whose own time would hide the gateway's.
"""

import sys

import uvloop

from server.app import create_app
from server.base_model import ensure_base
from server.engine.client import VllmEngine
from server.engine.fake import FakeEngine
from server.engine.link import Endpoint, Fixed
from server.engine.protocol import Engine
from server.gateway import Gateway
from server.home import open_registry
from server.preflight import bound_socket
from server.serve import GatewayServer, import_methods
from server.settings import Settings
from tests.serving import serving


async def main() -> None:
    """Serve until the process is killed."""
    settings = Settings()
    registry, versions = open_registry(settings, statement_seconds=settings.statement_seconds)
    ensure_base(registry, settings)
    engine: Engine = FakeEngine(settings.served_base)
    if len(sys.argv) > 1:
        engine = VllmEngine(Fixed(Endpoint(sys.argv[1])))
    gateway = Gateway(
        settings, registry=registry, versions=versions, bases=serving(settings, engine)
    )
    await gateway.builder.start()
    import_methods()
    server = GatewayServer(create_app(gateway), gateway, None)
    with bound_socket(settings.host, settings.port) as bound:
        await server.serve(sockets=[bound])


if __name__ == "__main__":
    uvloop.run(main())
