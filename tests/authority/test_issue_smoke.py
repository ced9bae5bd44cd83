from typing import Any
def test_smoke(issuer: Any, world: Any, issue: Any) -> None:
    got = issue(world.order(issuer.hello()))
    print(got.index, len(got.chain[0]))
    issuer.tls_leaf(world.spki)
    issue(world.order(issuer.hello(), request=world.td_request()))
