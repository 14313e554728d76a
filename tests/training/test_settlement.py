"""What a run leaves behind."""

from tests.toploss import given
from toploss import runs, snapshots
from toploss.home import Home
from training.settlement import began_with


def test_what_a_network_of_ours_may_have_learned_from_is_known(home: Home) -> None:
    added = given.two_classes(home)
    version = given.version(home, "cat", "dog")
    ids = [one.id for one in added]
    given.opinion(home, version, ids[:2], [[0.5, 0.5]] * 2, learned=ids[:5])
    lease = given.running(home)
    runs.note(home, lease, fingerprint=snapshots.freeze(home).fingerprint)
    ours = f"versions/{version}/weights.safetensors"

    assert began_with(home, {"start": None, "weights": "none"}) == 0
    assert began_with(home, {"start": ours, "weights": "default"}) == 5
    assert began_with(home, {"start": None, "weights": ours}) == 5
    checkpoint = f"runs/{lease.run}/stage-1.safetensors"
    assert began_with(home, {"start": checkpoint, "weights": "none"}) == 8
